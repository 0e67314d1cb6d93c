"""Records what a real group does to its workers' shares, for `tests/unit/core/test_recorded_rebalances.py`.

    .venv/bin/python -m tests.broker.record_rebalances              # all scenarios, about two minutes
    .venv/bin/python -m tests.broker.record_rebalances kills        # one of them

Starts a stack of its own for its broker and runs several `WorkConsumer`s in this process, each with a real
reader of `control`. They join, leave, give up and die while requests run. Every call into their `Share`s goes
into `tests/unit/core/recorded/<scenario>.json`, in the order in which it was made and with its result: one
JSON array a line, `[worker, call, arguments, result]`. Record anew when calls or commits change their form.

`took` and `killed` are no calls: a worker began requests, and it died. Topics are named by their lanes and
times count from the recording's start. Calls that change nothing are left out when they repeat.
"""

import asyncio
import logging
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from tests.stack import Stack

from headrace.contracts.events import Handover, Obituary
from headrace.contracts.topics import Lane, Topics
from headrace.core.offsets import Commit, Tracker
from headrace.core.ports import Outgoing, Place, Record
from headrace.core.share import Share
from headrace.kafka.admin import Admin
from headrace.kafka.control import Control
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.kafka.work import WorkConsumer, WorkRules, WorkTopics
from headrace.settings import KafkaSettings, Settings, WorkerSettings

FOLDER: Final = Path(__file__).parents[1] / "unit" / "core" / "recorded"
PARTITIONS: Final = 4
SLOTS: Final = 8
END_S: Final = 40.0


class Recording:
    """The lines of one scenario, of all its workers."""

    def __init__(self, topics: Topics) -> None:
        self._lanes = {topics.requests("echo", lane): str(lane) for lane in Lane}
        self._began_s = time.time()
        self._quiet: dict[tuple[str, str], float] = {}
        self.lines: list[list[Any]] = []

    def now_s(self, now_s: float) -> float:
        """The time as it is recorded."""
        return round(now_s - self._began_s, 3)

    def part(self, part: tuple[str, int]) -> list[Any]:
        """A partition, by its lane."""
        return [self._lanes[part[0]], part[1]]

    def place(self, place: Place) -> list[Any]:
        """A place, by its lane."""
        return [*self.part(place[:2]), place.offset]

    def commits(self, commits: Mapping[tuple[str, int], Commit | None]) -> list[Any]:
        """Commits by partition, in a fixed order."""
        return sorted(
            [*self.part(part), *((commit.offset, commit.metadata) if commit else (None, None))]
            for part, commit in commits.items()
        )

    def offsets(self, offsets: Mapping[tuple[str, int], int]) -> list[Any]:
        """Offsets by partition, in a fixed order."""
        return sorted([*self.part(part), offset] for part, offset in offsets.items())

    def handover(self, event: Handover) -> list[Any]:
        """A worker's word."""
        return [
            *(event.worker, self._lanes[event.topic], event.partition),
            *(list(event.done), list(event.running), event.until_s),
        ]

    def add(self, worker: str, call: str, arguments: list[Any], result: Any = None) -> None:
        """One more line."""
        self.lines.append([worker, call, arguments, result])

    def tick(self, worker: str, call: str, arguments: list[Any], result: Any) -> None:
        """One more line, unless nothing came of it and the same was so within the last second."""
        now_s = time.monotonic()
        if not result and now_s - self._quiet.get((worker, call), 0.0) < 1.0:
            return
        self._quiet[worker, call] = 0.0 if result else now_s
        self.add(worker, call, arguments, result)

    def start(self, worker: str, part: tuple[str, int], offset: int, *, result: bool) -> None:
        """Offsets of a poll share a line."""
        here = self.part(part)
        if self.lines and self.lines[-1][:2] == [worker, "start"] and self.lines[-1][2][:2] == here:
            self.lines[-1][2][2].append(offset)
            self.lines[-1][3].append(result)
        else:
            self.add(worker, "start", [*here, [offset]], [result])


class RecordedTracker(Tracker):
    """Tells what was asked to be started."""

    on_start: Callable[[int, bool], None]

    @classmethod
    def of(cls, tracker: Tracker, on_start: Callable[[int, bool], None]) -> "RecordedTracker":
        recorded = cls.__new__(cls)
        vars(recorded).update(vars(tracker))
        recorded.on_start = on_start
        return recorded

    def start(self, offset: int) -> bool:
        result = super().start(offset)
        self.on_start(offset, result)
        return result


class RecordedShare(Share):
    """A share that records every call. `is_dead`: its worker was killed, what it still does is nothing."""

    def __init__(self, worker: str, recording: Recording) -> None:
        super().__init__(worker)
        self._name = worker
        self._rec = recording
        self.is_dead = False

    def _add(self, call: str, arguments: list[Any], result: Any = None) -> None:
        if not self.is_dead:
            self._rec.add(self._name, call, arguments, result)

    def _tick(self, call: str, arguments: list[Any], result: Any) -> None:
        if not self.is_dead:
            self._rec.tick(self._name, call, arguments, result)

    def assign(self, parts, commits, now_s):
        now_s = self._rec.now_s(now_s)
        kept = super().assign(parts, commits, now_s)
        for part, tracker in self.trackers.items():
            if not isinstance(tracker, RecordedTracker):
                self.trackers[part] = RecordedTracker.of(tracker, self._starts(tuple(part)))
        arguments = [sorted(map(self._rec.part, parts)), self._rec.commits(commits), now_s]
        self._add("assign", arguments, self._rec.offsets(kept))
        return kept

    def _starts(self, part: tuple[str, int]) -> Callable[[int, bool], None]:
        def on_start(offset: int, result: bool) -> None:
            if not self.is_dead:
                self._rec.start(self._name, part, offset, result=result)

        return on_start

    def leaving(self, now_s):
        now_s = self._rec.now_s(now_s)
        commits = super().leaving(now_s)
        self._add("leaving", [now_s], self._rec.commits(commits))
        return commits

    def changed(self):
        commits = super().changed()
        self._tick("changed", [], self._rec.commits(commits))
        return commits

    def again(self, parts):
        parts = list(parts)
        super().again(parts)
        self._add("again", sorted(map(self._rec.part, parts)))

    def complete(self, place):
        super().complete(place)
        self._add("complete", self._rec.place(place))

    def abort(self, place):
        super().abort(place)
        self._add("abort", self._rec.place(place))

    def buried(self, worker):
        result = super().buried(worker)
        self._add("buried", [worker], result)
        return result

    def told(self, event):
        result = super().told(event)
        self._add("told", self._rec.handover(event), result)
        return result

    def expire(self, now_s):
        now_s = self._rec.now_s(now_s)
        result = super().expire(now_s)
        self._tick("expire", [now_s], result)
        return result

    def reread(self):
        offsets = super().reread()
        self._tick("reread", [], self._rec.offsets(offsets))
        return offsets

    def reports(self, now_s):
        now_s = self._rec.now_s(now_s)
        events = super().reports(now_s)
        self._tick("reports", [now_s], sorted(map(self._rec.handover, events)))
        return events


class Worker:
    """A worker with an engine that sleeps."""

    def __init__(self, scene: "Scene", name: str) -> None:
        self._scene = scene
        self.name = name
        control = scene.settings.kafka.topics.control
        self._reader = PartitionReader(scene.settings.kafka, {control: None})
        self._news = Control(self._reader)

        async def report(event: Handover) -> None:
            key = f"handover/{event.worker}/{event.topic}/{event.partition}"
            await scene.producer.send(Outgoing(control, event.encode(), key.encode()))

        rules = WorkRules(before_new=self._news.catch_up, report=report)
        self.source = WorkConsumer(
            scene.settings, WorkTopics(scene.settings.kafka.topics, "echo"), name, rules
        )
        self.share = RecordedShare(name, scene.recording)
        self.source._share = self.share
        self._running: dict[Place, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> int:
        return len(self._running)

    async def start(self) -> None:
        self._news.on(Obituary, lambda event, _: self.source.buried(event))
        self._news.on(Handover, lambda event, _: self.source.told(event))
        await self._reader.start()
        self._tasks.append(asyncio.create_task(self._news.follow()))
        await self._news.catch_up()
        await self.source.start()
        self._tasks.append(asyncio.create_task(self._serve()))

    async def _serve(self) -> None:
        while True:
            if len(self._running) >= SLOTS:
                await asyncio.sleep(0.01)
                continue
            for record in await self.source.take(SLOTS - len(self._running), 0.1):
                self._scene.recording.add(self.name, "took", self._scene.recording.place(record.place))
                self._running[record.place] = asyncio.create_task(self._run(record))

    async def _run(self, record: Record) -> None:
        await asyncio.sleep(float(record.value or b"0"))
        del self._running[record.place]
        self._scene.done.add(record.place)
        self.source.complete(record.place)

    async def leave(self, *, drain: bool = True) -> None:
        """Stop taking, finish or give up what runs, commit and go."""
        self._tasks[-1].cancel()
        if drain:
            await asyncio.gather(*self._running.values())
        for place, task in list(self._running.items()):
            task.cancel()
            self.source.abort(place)
        await self.source.stop()
        await self._end()

    async def kill(self) -> str:
        """No farewell, no commit: sockets close, heartbeats end. Gives its member id."""
        member_id = self.source.member_id or ""
        self.share.is_dead = True
        self._scene.recording.add(self.name, "killed", [])

        async def nothing(*_: Any) -> None:
            return None

        raw = self.source._raw
        raw._coordinator._maybe_leave_group = nothing
        self.source._commit = nothing  # type: ignore[method-assign]
        for task in [*self.source._tasks, *self._running.values()]:
            task.cancel()
        await asyncio.gather(*self.source._tasks, return_exceptions=True)
        await raw.stop()
        self.source._raw = None
        await self._end()
        return member_id

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reader.stop()


class Scene:
    """A model of its own, its requests and its workers."""

    def __init__(self, servers: str, seed: int) -> None:
        kafka = KafkaSettings(
            bootstrap_servers=servers,
            topic_prefix=f"r{uuid.uuid4().hex[:8]}.",
            replication_factor=1,
            min_insync_replicas=1,
            partitions=PARTITIONS,
        )
        # Commits at their real pace would be most of the recording.
        self.settings = Settings(
            kafka=kafka, worker=WorkerSettings(session_timeout_s=6.0, commit_interval_s=0.3)
        )
        self.recording = Recording(kafka.topics)
        self.producer = Producer(kafka, source="record")
        self.admin = Admin(kafka)
        self.workers: dict[str, Worker] = {}
        self.sent: set[Place] = set()
        self.done: set[Place] = set()
        self._chance = random.Random(seed)

    async def start(self) -> None:
        topics = self.settings.kafka.topics
        plans = topics.request_plans("echo", PARTITIONS)
        await self.admin.start()
        await self.admin.ensure_topics([*topics.shared_plans(), *plans])
        await self.admin.commit_initial_offsets(topics.group("echo"), plans)
        await self.producer.start()

    async def publish(self, count: int, every_s: float = 0.02) -> None:
        """Requests of 0.1 to 0.6 s, every eighth of 2 to 4 s."""
        topic = self.settings.kafka.topics.requests("echo", Lane.DEFAULT)
        receipts = []
        for number in range(count):
            service_s = self._chance.uniform(0.1, 0.6) if number % 8 else self._chance.uniform(2.0, 4.0)
            out = Outgoing(topic, f"{service_s:.3f}".encode(), partition=number % PARTITIONS)
            receipts.append(await self.producer.send(out))
            await asyncio.sleep(every_s)
        for receipt in await asyncio.gather(*receipts):
            self.sent.add(Place(receipt.topic, receipt.partition, receipt.offset))

    async def join(self, *names: str) -> None:
        """More workers; returns when each has its first share."""
        for name in names:
            worker = self.workers[name] = Worker(self, name)
            await worker.start()
        async with asyncio.timeout(END_S):
            for name in names:
                await self.workers[name].source.joined.wait()

    async def busy(self, name: str) -> Worker:
        """The worker, once it runs something."""
        worker = self.workers[name]
        async with asyncio.timeout(END_S):
            while not worker.in_flight:
                await asyncio.sleep(0.01)
        return worker

    async def leave(self, name: str, *, drain: bool = True) -> None:
        worker = await self.busy(name)
        del self.workers[name]
        await worker.leave(drain=drain)

    async def kill(self, name: str, *, obituary: bool) -> None:
        worker = await self.busy(name)
        del self.workers[name]
        member_id = await worker.kill()
        if obituary:
            topics = self.settings.kafka.topics
            event = Obituary(worker=name, group=topics.group("echo"), sent_at_s=time.time())
            out = Outgoing(topics.control, event.encode(), f"obituary/{name}".encode())
            await (await self.producer.send(out))
            await self.admin.leave_group(topics.group("echo"), member_id)

    async def end(self) -> None:
        """Wait until nothing is left to do, and all of that is committed."""
        until_s = time.monotonic() + END_S
        while self.sent - self.done or any(p.requests for p in (await self.admin.backlog("echo")).rows):
            if time.monotonic() > until_s:
                raise TimeoutError(f"still to do: {sorted(self.sent - self.done)}")
            await asyncio.sleep(0.2)

    async def stop(self) -> None:
        for worker in self.workers.values():
            await worker.leave()
        await self.producer.stop()
        await self.admin.stop()


async def joins_and_leaves(scene: Scene) -> None:
    """Partitions move to and fro while requests run; one worker gives up what it runs."""
    publishing = asyncio.create_task(scene.publish(120, every_s=0.05))
    await scene.join("w1")
    await asyncio.sleep(0.7)
    await scene.join("w2")
    await asyncio.sleep(0.7)
    await scene.join("w3", "w4")
    await asyncio.sleep(0.7)
    await scene.leave("w2")
    await asyncio.sleep(0.7)
    await scene.leave("w1", drain=False)
    await scene.join("w5")
    await publishing


async def kills(scene: Scene) -> None:
    """Workers die at work, and their obituaries come at once."""
    publishing = asyncio.create_task(scene.publish(100, every_s=0.05))
    await scene.join("w1", "w2", "w3")
    await asyncio.sleep(0.7)
    await scene.kill("w2", obituary=True)
    await asyncio.sleep(0.7)
    await scene.join("w4")
    await scene.kill("w1", obituary=True)
    await publishing


async def silent_deaths(scene: Scene) -> None:
    """Nobody says that they died: the session timeout and the holds' end are the net beneath.

    The first dies with requests of partitions that it had just lost to the others.
    """
    publishing = asyncio.create_task(scene.publish(100, every_s=0.02))
    await scene.join("w1")
    await asyncio.sleep(0.5)
    await scene.join("w2", "w3")
    await scene.kill("w1", obituary=False)
    await asyncio.sleep(9.0)
    await scene.join("w4")
    await scene.publish(30)
    await scene.kill("w2", obituary=False)
    await publishing


SCENARIOS: Final[Mapping[str, Callable[[Scene], Awaitable[None]]]] = {
    scenario.__name__: scenario for scenario in (joins_and_leaves, kills, silent_deaths)
}


async def record(name: str, servers: str) -> None:
    """Play a scenario and write it down."""
    scene = Scene(servers, seed=len(name))
    await scene.start()
    try:
        await SCENARIOS[name](scene)
        await scene.end()
    finally:
        await scene.stop()
    sent = sorted(map(scene.recording.place, scene.sent))
    path = FOLDER / f"{name}.json"
    lines = [["", "sent", sent, None], *scene.recording.lines]
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\n")
    print(f"{name}: {len(lines)} lines, {path.stat().st_size} bytes")


def main() -> None:
    """Record the scenarios that are named, or all."""
    # New topics have no leader for a moment, and rebalances are what we are after.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="headrace-record-") as folder:
        stack = Stack(Path(folder))
        try:
            stack.start()
            for name in sys.argv[1:] or SCENARIOS:
                asyncio.run(record(name, stack.kafka_bootstrap_servers))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
