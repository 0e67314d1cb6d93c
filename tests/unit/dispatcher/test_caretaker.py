"""The caretaker: answers what ended, commits it once, and undoes nobody's work."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from headrace.contracts import requests
from headrace.contracts.errors import Unavailable
from headrace.contracts.events import ModelDeployed
from headrace.contracts.manifest import Manifest
from headrace.contracts.requests import RequestHead
from headrace.contracts.topics import Topics
from headrace.core.cancels import Cancels
from headrace.core.identity import Trust
from headrace.core.offsets import Commit
from headrace.core.ports import Outgoing, Place, Record
from headrace.core.vacancy import Part
from headrace.dispatcher import answering, stopping
from headrace.dispatcher.answering import Answering
from headrace.dispatcher.caretaker import Caretaker, Parts

PART = ("lane", 0)
MODEL = ModelDeployed(
    name="m",
    slug="m",
    version="1",
    package_url="s3://b/k",
    manifest=Manifest.model_validate({"name": "m", "engine": {"kind": "echo"}}),
    partitions=1,
    deployed_at_s=0,
)


class Group:
    """One partition; somebody else may commit when we have read."""

    def __init__(self, *records: Record) -> None:
        self.records = records
        self.committed = Commit(0, "")
        self.others: Commit | None = None
        self.reads = 0

    async def commits(self) -> Mapping[Part, Commit | None]:
        return {PART: self.committed}

    async def read(self, positions: Mapping[Part, int]) -> AsyncIterator[Sequence[Record]]:
        self.reads += 1
        for record in self.records[positions[PART] :]:
            yield [record]
        if self.others is not None:
            self.committed = self.others

    async def commit(self, commits: Mapping[Part, Commit]) -> bool:
        self.committed = commits[PART]
        return True


class Bench:
    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.group, self.is_vacant, self.is_away = Group(), True, False
        self.models = {"m": MODEL}
        answers = Answering(self, Topics(), ())
        self.caretaker = Caretaker(Parts(self, lambda: self.models, answers, Cancels(), Trust(None), 0.01))

    async def vacant(self) -> list[str]:
        return list(self.models) if self.is_vacant else []

    @asynccontextmanager
    async def open(self, deployed: ModelDeployed) -> AsyncIterator[Group]:
        if deployed.name == "broken":
            raise Unavailable("its group does not answer")
        yield self.group

    async def send(self, record: Outgoing) -> "asyncio.Future[Place]":
        if self.is_away:
            raise Unavailable("away")
        self.sent.append(record)
        receipt: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        receipt.set_result(Place(record.topic, 0, 0))
        return receipt

    async def partitions(self, topic: str) -> int:
        return 1


@pytest.fixture
def bench() -> Bench:
    return Bench()


def record(offset: int, expires_at_s: float) -> Record:
    head = RequestHead(id=f"r{offset}", source="/t", expires_at_s=expires_at_s)
    return Record(Place(*PART, offset), None, b"{}", dict(requests.write(head)), int(time.time() * 1000))


async def test_each_is_answered_once(bench: Bench) -> None:
    bench.group = Group(record(0, time.time() + 60), record(1, 1.0), record(2, 1.0))
    await bench.caretaker.look()
    await bench.caretaker.look()
    assert sorted((sent.key or b"") for sent in bench.sent) == [b"r1", b"r2"]
    assert bench.group.committed.offset == 0
    assert bench.group.committed.metadata


async def test_what_others_did_meanwhile_is_not_undone(bench: Bench) -> None:
    bench.group = Group(record(0, 1.0), record(1, 1.0))
    bench.group.others = Commit(8, "")
    await bench.caretaker.look()
    assert bench.group.committed == Commit(8, "")


async def test_a_model_that_cannot_be_looked_at_holds_up_no_other(bench: Bench) -> None:
    bench.models = {"broken": MODEL.model_copy(update={"name": "broken", "slug": "broken"}), "m": MODEL}
    bench.group = Group(record(0, 1.0))
    await bench.caretaker.look()
    assert [sent.key for sent in bench.sent] == [b"r0"]


async def test_a_model_that_has_workers_is_theirs(bench: Bench) -> None:
    bench.group, bench.is_vacant = Group(record(0, 1.0)), False
    await bench.caretaker.look()
    assert (bench.sent, bench.group.reads) == ([], 0)


async def test_told_to_stop_while_kafka_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_RETRY_S", 0.01)
    monkeypatch.setattr(stopping, "_GRACE_S", 0.01)
    bench.group, bench.is_away = Group(record(0, 1.0)), True
    stop = asyncio.Event()
    running = asyncio.create_task(bench.caretaker.run(stop))
    await asyncio.sleep(0.05)
    stop.set()
    async with asyncio.timeout(5):
        await running
    assert bench.group.committed == Commit(0, "")
