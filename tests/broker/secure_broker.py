"""A broker that takes nobody without a certificate or a password: mutual TLS, and SASL over TLS."""

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from itertools import product
from pathlib import Path

import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from tests.stack import wait_until

from headrace.devstack.broker import Broker
from headrace.devstack.distribution import Distribution
from headrace.devstack.ports import HOST, free
from headrace.devstack.probe import kafka_answers
from headrace.devstack.processes import Service, run
from headrace.settings import load

USER, PASSWORD = "ann", "a-secret"
CALLER = "carol"
"""Another user, with the same password."""
PREFIX = "t"
"""Topics and groups whose names begin so belong to `USER` and to the client certificate."""

_DENY, _ALLOW = 2, 3

_PROPERTIES = """
listeners=PLAINTEXT://{host}:{plain},SSL://{host}:{ssl},SASL_SSL://{host}:{sasl},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{plain},SSL://{host}:{ssl},SASL_SSL://{host}:{sasl},CONTROLLER://{host}:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.principal.mapping.rules=RULE:^.*$/certified/
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=\
  org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_{user}="{password}" user_{caller}="{password}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


@dataclass(frozen=True)
class SecureBroker:
    """Where it listens, and the files: `ca`, `client` and its `key`, a `stranger`'s and theirs."""

    plain: str
    ssl: str
    sasl: str
    folder: Path

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


class _Secured(Broker):
    """A broker with more listeners, and users from its first moment on."""

    more = ""

    async def _format(self, start: Sequence[str], properties: Path) -> None:
        properties.write_text(properties.read_text() + self.more)  # the last word counts
        cluster_id = "c2VjdXJlLWJyb2tlci0xMg"
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(properties)]
        for bits, user in product((256, 512), (USER, CALLER)):
            tool += ["--add-scram", f"SCRAM-SHA-{bits}=[name={user},password={PASSWORD}]"]
        await run(Service("format", [*start, *tool], {}))


class Resource(IntEnum):
    """Kafka's numbers."""

    TOPIC = 2
    GROUP = 3


class Right(IntEnum):
    """Kafka's numbers."""

    ALL = 2
    READ = 3
    WRITE = 4


class Names(IntEnum):
    """Kafka's numbers."""

    LITERAL = 3
    PREFIXED = 4


async def permit(
    broker: SecureBroker,
    user: str,
    right: Right,
    resource: Resource,
    name: str,
    names: Names,
    *,
    deny: bool = False,
) -> None:
    """What `kafka-acls.sh --add` does; over the listener on which everybody may do everything."""
    word = _DENY if deny else _ALLOW
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.plain)
    await admin.start()
    try:
        reply = await admin._send_request(
            CreateAclsRequest(resource, name, names, f"User:{user}", "*", right, word)
        )
        assert [code for code, _ in reply.creation_responses] == [0], reply
        known = DescribeAclsRequest(resource, name, names, f"User:{user}", "*", right, word)
        # The controller has it; the broker hears of it a moment later.
        while not (await admin._send_request(known)).resources:
            await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def _permit_ours(broker: SecureBroker) -> None:
    for user, resource in product((USER, "certified"), Resource):
        await permit(broker, user, Right.ALL, resource, PREFIX, Names.PREFIXED)


@contextmanager
def secure_broker(folder: Path) -> Iterator[SecureBroker]:
    """Run one."""
    plain, tls, sasl, controller = free(4)
    _certificates(folder)
    broker = _Secured(folder / "kafka", Distribution(load().cache_dir.expanduser()), plain, controller)
    ports = {"plain": plain, "ssl": tls, "sasl": sasl, "controller": controller}
    broker.more = _PROPERTIES.format(
        host=HOST, folder=folder, user=USER, caller=CALLER, password=PASSWORD, **ports
    )
    service = asyncio.run(broker.prepare(say=print))
    log = folder / "kafka.log"
    with log.open("wb") as output:
        process = subprocess.Popen(service.command, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or asyncio.run(kafka_answers(plain)), "Kafka to answer")
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        secure = SecureBroker(f"{HOST}:{plain}", f"{HOST}:{tls}", f"{HOST}:{sasl}", folder)
        asyncio.run(_permit_ours(secure))
        yield secure
    finally:
        process.kill()
        process.wait()


def _certificates(folder: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(folder / "ca.pem"))
    theirs.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    for name, ca, identity in (
        ("server", ours, HOST),
        ("client", ours, "client.test"),
        ("stranger", theirs, "stranger.test"),
    ):
        made = ca.issue_cert(identity)
        # Kafka reads PKCS#8 only.
        key = load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        (folder / f"{name}-key.pem").write_bytes(key)
        (folder / f"{name}.pem").write_bytes(key + chain if name == "server" else chain)
