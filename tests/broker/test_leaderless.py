"""Two brokers, of which one dies: the models that it led cannot be read, all others can."""

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from tests.stack import wait_until
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.contracts.topics import Lane, Topics
from headrace.core.ports import Outgoing
from headrace.devstack.broker import Broker
from headrace.devstack.distribution import Distribution
from headrace.devstack.ports import HOST, free
from headrace.devstack.probe import kafka_answers
from headrace.devstack.processes import Service, run
from headrace.dispatcher.app import _Groups
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.settings import KafkaSettings, load

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(180)]

_CLUSTER = "dHdvLWJyb2tlcnMtMTIzNA"
_SECOND = """
process.roles=broker
node.id=2
listeners=PLAINTEXT://{host}:{port}
advertised.listeners=PLAINTEXT://{host}:{port}
"""


class _Member(Broker):
    """A broker of one cluster; the first one is its controller too."""

    more = ""

    async def _format(self, start: Sequence[str], properties: Path) -> None:
        properties.write_text(properties.read_text() + self.more)  # the last word counts
        kind = [] if self.more else ["--standalone"]
        tool = ["kafka.tools.StorageTool", "format", *kind, "-t", _CLUSTER, "-c", str(properties)]
        await run(Service("format", [*start, *tool], {}))


class Second:
    """The broker that dies, and comes back."""

    def __init__(self, service: Service, port: int, log: Path) -> None:
        self._service, self._port, self._log = service, port, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = _run(self._service, self._port, self._log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _run(service: Service, port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        process = subprocess.Popen(service.command, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or asyncio.run(kafka_answers(port)), "Kafka to answer")
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


@contextmanager
def _two(folder: Path) -> Iterator[tuple[str, Second]]:
    first_port, second_port, controller = free(3)
    distribution = Distribution(load().cache_dir.expanduser())
    first = _Member(folder / "first", distribution, first_port, controller)
    other = _Member(folder / "second", distribution, second_port, controller)
    other.more = _SECOND.format(host=HOST, port=second_port)
    with ExitStack() as stack:
        process = _run(asyncio.run(first.prepare(print)), first_port, folder / "first.log")
        stack.callback(process.wait)
        stack.callback(process.kill)
        second = Second(asyncio.run(other.prepare(print)), second_port, folder / "second.log")
        stack.callback(second.kill)
        yield f"{HOST}:{first_port}", second


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Second]]:
    with _two(tmp_path_factory.mktemp("two")) as found:
        yield found


async def _on_second(admin: Admin, names: Sequence[str]) -> None:
    """Make topics of two partitions, of which the second broker leads the last."""
    while True:
        metadata = await admin._raw.describe_cluster()
        if {broker["node_id"] for broker in metadata["brokers"]} == {1, 2}:
            break
        await asyncio.sleep(0.1)
    reply = await admin._raw.create_topics(
        [NewTopic(name, -1, -1, replica_assignments={0: [1], 1: [2]}) for name in names]
    )
    assert [code for _, code, *_ in reply.topic_errors] == [0] * len(names), reply
    await admin._wait_visible(names)


def lanes(topics: Topics, slug: str) -> list[str]:
    return [topics.requests(slug, lane) for lane in Lane]


async def test_a_dead_broker_holds_up_only_the_models_that_it_led(
    two: tuple[str, Second], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, second = two
    kafka = KafkaSettings(
        bootstrap_servers=address, topic_prefix="t.", replication_factor=1, min_insync_replicas=1
    )
    elsewhere = kafka.model_copy(update={"topic_prefix": "u."})
    topics = kafka.topics
    async with Admin(kafka) as admin, Admin(elsewhere) as other:
        plans = topics.request_plans("near", 2)
        await admin.ensure_topics([*topics.shared_plans(), *plans])
        await admin.commit_initial_offsets(topics.group("near"), plans)  # the first broker keeps all commits
        await asyncio.to_thread(second.start)
        await _on_second(admin, lanes(topics, "far"))
        await _on_second(other, [elsewhere.topics.workers])
        producer = Producer(kafka, source="test")
        await producer.start()
        for slug in ("near", "far"):
            await (await producer.send(Outgoing(topics.requests(slug, Lane.DEFAULT), b"{}", partition=0)))
        await producer.stop()
        slugs = ["near", "far"]
        before = await admin.follow_backlog(slugs, slugs)
        assert before.faults == {}
        assert not (await other.follow_backlog(["near"], [])).is_deaf
        near = {row for row in before.rows if row.model_slug == "near"}
        assert sum(row.requests for row in near) == 1

        second.kill()
        fault = ""
        while not fault.endswith("-1 has no leader"):
            found = await admin.follow_backlog(slugs, slugs)
            # Until Kafka takes it for dead nothing may be said of it, but never a wrong thing.
            assert near <= set(found.rows)
            assert not found.is_deaf
            fault = found.faults.get("far", "")
            assert fault
            assert set(found.rows) == near
            await asyncio.sleep(0.1)
        found = await admin.backlog()
        assert (set(found.rows), found.faults) == (near, {"far": fault})
        assert (await admin.backlog("far")).faults == {"far": fault}
        assert (await other.follow_backlog(["near"], [])).is_deaf
        async with _Groups(kafka) as groups:
            assert await groups.vacant() == ["near"]
        monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", address)
        monkeypatch.setenv("HEADRACE_KAFKA_TOPIC_PREFIX", kafka.topic_prefix)
        for arguments in (["backlog"], ["backlog", "far"]):
            done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
            assert done.exit_code == 1
            assert f"far cannot be read: {fault}" in done.stderr
            assert ("near" in done.stdout) == (len(arguments) == 1)

        await asyncio.to_thread(second.start)
        while (found := await admin.follow_backlog(slugs, slugs)).faults:
            await asyncio.sleep(0.1)
        assert sum(row.requests for row in found.rows) == 2
        while (await other.follow_backlog(["near"], [])).is_deaf:
            await asyncio.sleep(0.1)
