"""The embedded Kafka: serves when it says so, keeps its data when it moves to other ports or is killed."""

import asyncio
import re
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from headrace.contracts.errors import SetupError
from headrace.contracts.topics import TopicPlan
from headrace.core.ports import Outgoing
from headrace.devstack.broker import Broker
from headrace.devstack.distribution import Distribution
from headrace.devstack.ports import HOST, free
from headrace.devstack.probe import kafka_answers
from headrace.devstack.processes import Child, spawn
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings, load

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(200)]


async def test_serves_as_soon_as_it_says_so(broker: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    try:
        assert len(producer.client.cluster.brokers()) == 1
    finally:
        await producer.stop()


async def test_keeps_records_on_new_ports_after_a_stop_and_after_a_kill(tmp_path: Path) -> None:
    child, settings = await start(tmp_path)
    cluster = cluster_id(tmp_path)
    try:
        async with Admin(settings) as admin:
            await admin.ensure_topics([TopicPlan("kept", 1)])
        await write(settings, b"before a stop")
        await child.stop()
        assert child.process.returncode == 143  # its own clean end: 128 + SIGTERM

        child, settings = await start(tmp_path)
        await write(settings, b"before a kill")
        child.kill()
        await child.process.wait()

        child, settings = await start(tmp_path)
        assert await read(settings) == [b"before a stop", b"before a kill"]
        assert cluster_id(tmp_path) == cluster
    finally:
        await child.stop()


async def test_two_folders_are_two_clusters(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        await prepared(folder)

    assert cluster_id(first) != cluster_id(second)


async def test_no_cluster_id_reads_as_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_bytes", lambda count: b"\xf8" * count)  # "-" in front, in base64

    await prepared(tmp_path)

    assert not cluster_id(tmp_path).startswith("-")


async def test_kafka_that_cannot_be_fetched_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy that nobody runs: no network, as far as the download can tell.
    (port,) = free(1)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:{port}")
    said: list[str] = []

    with pytest.raises(SetupError, match=r"Apache Kafka 4\.4\.0 cannot be fetched"):
        await Distribution(tmp_path).ensure(said.append)

    assert said[0].startswith("fetching Apache Kafka")
    assert list(tmp_path.iterdir()) == []


def test_distribution_that_lacks_a_jar_is_not_whole(tmp_path: Path) -> None:
    distribution = Distribution(tmp_path)
    (distribution.folder / "jars").mkdir(parents=True)
    (distribution.folder / "jars.txt").write_text("a.jar\nb.jar")
    (distribution.folder / "jars" / "a.jar").touch()
    before = distribution.is_whole
    (distribution.folder / "jars" / "b.jar").touch()

    assert (before, distribution.is_whole) == (False, True)


async def prepared(folder: Path) -> tuple[Broker, list[str]]:
    port, controller_port = free(2)
    broker = Broker(folder, Distribution(load().cache_dir.expanduser()), port, controller_port)
    service = await broker.prepare(print)
    return broker, list(service.command)


async def start(folder: Path) -> tuple[Child, KafkaSettings]:
    port, controller_port = free(2)
    broker = Broker(folder, Distribution(load().cache_dir.expanduser()), port, controller_port)
    child = await spawn(await broker.prepare(print), folder / "kafka.log")
    async with asyncio.timeout(60):
        while not await kafka_answers(port):
            assert child.process.returncode is None, (folder / "kafka.log").read_text()
            await asyncio.sleep(0.05)
    settings = KafkaSettings(bootstrap_servers=f"{HOST}:{port}", replication_factor=1, min_insync_replicas=1)
    return child, settings


async def write(settings: KafkaSettings, value: bytes) -> None:
    producer = Producer(settings, source="test")
    await producer.start()
    try:
        await (await producer.send(Outgoing("kept", value)))
    finally:
        await producer.stop()


async def read(settings: KafkaSettings) -> list[bytes | None]:
    async with PartitionReader(settings, {"kept": None}) as reader:
        return [record.value for record in await reader.read_to_end()]


def cluster_id(folder: Path) -> str:
    found = re.search(r"^cluster\.id=(\S+)$", (folder / "log" / "meta.properties").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
