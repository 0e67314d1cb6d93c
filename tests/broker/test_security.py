"""Kafka over mutual TLS and over SASL: every client of ours works, and every mistake is one sentence."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.broker.secure_broker import PASSWORD, USER, SecureBroker, secure_broker

from headrace.contracts.errors import SetupError
from headrace.contracts.topics import Lane
from headrace.core.ports import Outgoing
from headrace.kafka.admin import Admin
from headrace.kafka.group import GroupReader
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.kafka.work import WorkConsumer, WorkTopics
from headrace.settings import KafkaSettings, Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with secure_broker(tmp_path_factory.mktemp("secure")) as broker:
        yield broker


def mutual(secure: SecureBroker, **changes: Any) -> KafkaSettings:
    return _settings(
        bootstrap_servers=secure.ssl,
        security_protocol="SSL",
        ssl_ca_file=secure.file("ca"),
        ssl_cert_file=secure.file("client"),
        ssl_key_file=secure.file("client-key"),
        **changes,
    )


def sasl(secure: SecureBroker, **changes: Any) -> KafkaSettings:
    return _settings(
        bootstrap_servers=secure.sasl,
        security_protocol="SASL_SSL",
        ssl_ca_file=secure.file("ca"),
        sasl_username=USER,
        sasl_password=PASSWORD,
        **changes,
    )


def _settings(**given: Any) -> KafkaSettings:
    mine = {"topic_prefix": f"t{uuid.uuid4().hex[:8]}.", "replication_factor": 1, "min_insync_replicas": 1}
    return KafkaSettings.model_validate({**mine, **given})


async def everything(kafka: KafkaSettings) -> None:
    """Each kind of client, once round."""
    topics = kafka.topics
    plans = topics.request_plans("echo", 2)
    async with asyncio.timeout(60):
        async with Admin(kafka) as admin:
            await admin.ensure_topics([*topics.shared_plans(), *plans])
            await admin.commit_initial_offsets(topics.group("echo"), plans)
        producer = Producer(kafka, source="test")
        await producer.start()
        lane = topics.requests("echo", Lane.DEFAULT)
        await (await producer.send(Outgoing(lane, b"hello", headers=[("a", b"b")])))
        await producer.stop()
        async with PartitionReader(kafka, {lane: None}) as reader:
            assert [record.value for record in await reader.read_to_end()] == [b"hello"]
        group = GroupReader(kafka, f"{kafka.topic_prefix}group", [lane])
        await group.start()
        while not (records := await group.poll(1.0, 10)):
            pass
        assert [record.value for record in records] == [b"hello"]
        assert await group.commit()
        await group.stop()
        work = WorkConsumer(Settings(kafka=kafka), WorkTopics(topics, "echo"), "w-1")
        await work.start()
        while not (taken := await work.take(10, 1.0)):
            pass
        work.complete(taken[0].place)
        await work.stop()
        async with Admin(kafka) as admin:
            assert sum(part.requests for part in (await admin.backlog()).rows) == 0


async def test_mutual_tls(secure: SecureBroker) -> None:
    await everything(mutual(secure))


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_sasl_over_tls(secure: SecureBroker, mechanism: str) -> None:
    await everything(sasl(secure, sasl_mechanism=mechanism))


async def refused(kafka: KafkaSettings) -> str:
    """The sentence with which a client gives up; nothing in it is a secret."""
    producer = Producer(kafka, source="test")
    with pytest.raises(SetupError) as caught:
        async with asyncio.timeout(30):
            await producer.start()
    sentence = str(caught.value)
    assert PASSWORD not in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
@pytest.mark.parametrize("wrong", [{"sasl_password": "guess"}, {"sasl_username": "bob"}])
async def test_a_wrong_password_or_user(secure: SecureBroker, wrong: dict[str, str], mechanism: str) -> None:
    kafka = sasl(secure, sasl_mechanism=mechanism).model_copy(
        update=KafkaSettings.model_validate(wrong).model_dump(include=set(wrong))
    )
    sentence = await refused(kafka)
    assert "HEADRACE_KAFKA_SASL_USERNAME and HEADRACE_KAFKA_SASL_PASSWORD" in sentence


async def test_no_password_at_all(secure: SecureBroker) -> None:
    assert "HEADRACE_KAFKA_SASL_PASSWORD" in await refused(
        sasl(secure).model_copy(update={"sasl_password": None})
    )


async def test_a_mechanism_that_the_broker_does_not_have(secure: SecureBroker) -> None:
    kafka = mutual(secure).model_copy(
        update={"bootstrap_servers": secure.ssl, "security_protocol": "SASL_SSL", "sasl_username": USER}
    )
    kafka = kafka.model_copy(update={"sasl_password": sasl(secure).sasl_password})
    await refused(kafka)


async def test_a_server_that_another_authority_vouches_for(secure: SecureBroker) -> None:
    sentence = await refused(sasl(secure).model_copy(update={"ssl_ca_file": secure.file("other-ca")}))
    assert "HEADRACE_KAFKA_SSL_CA_FILE" in sentence


async def test_a_server_under_another_name(secure: SecureBroker) -> None:
    port = secure.sasl.rpartition(":")[2]
    sentence = await refused(sasl(secure).model_copy(update={"bootstrap_servers": f"localhost:{port}"}))
    assert "localhost" in sentence


async def test_no_certificate_or_a_strangers(secure: SecureBroker) -> None:
    none = mutual(secure).model_copy(update={"ssl_cert_file": None, "ssl_key_file": None})
    assert "HEADRACE_KAFKA_SSL_CERT_FILE" in await refused(none)
    theirs = {"ssl_cert_file": secure.file("stranger"), "ssl_key_file": secure.file("stranger-key")}
    assert "HEADRACE_KAFKA_SSL_CERT_FILE" in await refused(mutual(secure).model_copy(update=theirs))


async def test_plain_words_to_a_port_that_speaks_tls(secure: SecureBroker) -> None:
    for address in (secure.ssl, secure.sasl):
        sentence = await refused(_settings(bootstrap_servers=address))
        assert "HEADRACE_KAFKA_SECURITY_PROTOCOL" in sentence


async def test_tls_to_a_port_that_speaks_plain_words(secure: SecureBroker) -> None:
    sentence = await refused(mutual(secure).model_copy(update={"bootstrap_servers": secure.plain}))
    assert "HEADRACE_KAFKA_SECURITY_PROTOCOL" in sentence


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ssl_ca_file": Path("nowhere.pem")}, "HEADRACE_KAFKA_SSL_CA_FILE"),
        ({"ssl_ca_file": "client-key"}, "HEADRACE_KAFKA_SSL_CA_FILE"),
        ({"ssl_cert_file": Path("nowhere.pem")}, "HEADRACE_KAFKA_SSL_CERT_FILE"),
        ({"ssl_key_file": Path("nowhere.pem")}, "HEADRACE_KAFKA_SSL_KEY_FILE"),
        ({"ssl_key_file": None}, "HEADRACE_KAFKA_SSL_KEY_FILE"),
        ({"ssl_cert_file": None}, "HEADRACE_KAFKA_SSL_CERT_FILE"),
        ({"ssl_key_file": "stranger-key"}, "HEADRACE_KAFKA_SSL_KEY_FILE"),
        ({"ssl_cert_file": "ca"}, "HEADRACE_KAFKA_SSL_KEY_FILE"),
    ],
)
async def test_files_that_cannot_be_used(secure: SecureBroker, changes: dict[str, Any], named: str) -> None:
    found = {name: secure.file(file) if isinstance(file, str) else file for name, file in changes.items()}
    assert named in await refused(mutual(secure).model_copy(update=found))
