"""`python -m loadtests.scaler_tick`: what one look of the scaler costs with many models.

- 100 models on a real Kafka, a tenth of them with workers and work: read, decide, say what is to be written.
- 1,000 models with 20,000 partitions from memory: the same without Kafka.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import uvloop

from headrace.contracts.events import ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.manifest import Manifest
from headrace.contracts.topics import LANES, Lane, Topics
from headrace.core.glimpse import Seen
from headrace.core.ports import Outgoing, Place, Record
from headrace.core.scaling import Phase, Worker, decide
from headrace.kafka.admin import Admin
from headrace.kafka.backlog import PartitionBacklog
from headrace.kafka.producer import Producer
from headrace.scaler.fleet import Fleet
from headrace.scaler.known import depths
from headrace.scaler.ledger import Ledger
from headrace.settings import KafkaSettings, ScalerSettings
from loadtests.measures import median
from loadtests.stack import StackError, embedded

_TOPICS: Final = Topics()
_ROUNDS: Final = 40
_SEEN: Final = 200
_LOOK: Final = 4
"""Rounds between two looks at what waits."""
_REAL: Final = 100
_MADE: Final = 1000
_PARTITIONS: Final = 20_000


class Room:
    """A scaler's decisions, without its actuator."""

    def __init__(self, models: int, partitions: int) -> None:
        self.fleet = Fleet(_TOPICS, ScalerSettings())
        self._ledger = Ledger()
        self.slugs = [f"m{number}" for number in range(models)]
        for slug in self.slugs:
            self._hear(_TOPICS.models, slug, _deployed(slug, partitions).encode())
        self.workers = [Worker(f"w-{slug}", slug, "v", Phase.READY, 0.0, 4) for slug in self.slugs[::10]]
        self.beat(0)

    def beat(self, count: int) -> None:
        """What workers say of themselves, a while later."""
        for worker in self.workers:
            self._hear(_TOPICS.workers, worker.id, _heartbeat(worker, count).encode())

    def _hear(self, topic: str, key: str, value: bytes) -> None:
        self.fleet.update([Record(Place(topic, 0, 0), key.encode(), value, {}, 0)])

    def look(self, now_s: float) -> None:
        """What waits for those with work, as a look at it says: deadlines and sizes that all differ."""
        few = [
            Seen(Lane.DEFAULT, number / _SEEN, now_s, now_s + 10 * 1.05**number, 100 + number)
            for number in range(_SEEN)
        ]
        for slug in self.slugs[::10]:
            self.fleet.known[slug].look(few, {Lane.DEFAULT: 100}, now_s)

    def decide(self, rows: Sequence[PartitionBacklog], now_s: float) -> int:
        """One decision; gives how many records would be written."""
        self.fleet.measure(
            depths((row.model_slug, row.partition, row.requests, row.lag, row.end) for row in rows), now_s
        )
        self.fleet.plan(self.workers, now_s)
        observed = self.fleet.observe(self.workers, now_s)
        actions = decide(observed, (0.0,), now_s)
        written = self._ledger.decisions(1, self.fleet.known, self.workers, {}, now_s)
        return len(actions) + len([each.encode() for each in written])


def _deployed(slug: str, partitions: int) -> ModelDeployed:
    manifest = {"name": slug, "engine": {"kind": "echo"}, "scaling": {"min_workers": 0, "max_workers": 4}}
    return ModelDeployed(
        name=slug,
        slug=slug,
        version="v",
        package_url="s3://b/k",
        manifest=Manifest.model_validate(manifest),
        partitions=partitions,
        deployed_at_s=0.0,
    )


def _heartbeat(worker: Worker, count: int) -> WorkerHeartbeat:
    return WorkerHeartbeat(
        id=worker.id,
        pid=1,
        host="h",
        model=worker.model,
        version="v",
        state=WorkerState.READY,
        in_flight=4,
        capacity=4,
        completed=count,
        busy_s=count * 0.1,
        slot_s=count * 0.4,
        started_at_s=0.0,
        sent_at_s=time.time(),
    )


async def on_kafka() -> None:
    """100 models, four partitions a lane."""
    room = Room(_REAL, 4)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(embedded())
        settings = KafkaSettings(
            bootstrap_servers=target.bootstrap_servers, replication_factor=1, min_insync_replicas=1
        )
        admin = await stack.enter_async_context(Admin(settings))
        producer = Producer(settings, source="tick")
        await producer.start()
        stack.push_async_callback(producer.stop)
        for slug in room.slugs:
            plans = _TOPICS.request_plans(slug, 4)
            await admin.ensure_topics(plans)
            await admin.commit_initial_offsets(_TOPICS.group(slug), plans)
        for worker in room.workers:
            for lane in LANES:
                for _ in range(5):
                    await (await producer.send(Outgoing(_TOPICS.requests(worker.model, lane), b"{}")))
        walls, cpus, whole = [], [], []
        rows: Sequence[PartitionBacklog] = ()
        for number in range(_ROUNDS):
            room.beat(number)
            started, cpu = time.perf_counter(), time.process_time()
            rows = (await admin.follow_backlog(room.slugs, room.fleet.live(time.time()))).rows
            room.decide(rows, time.time())
            walls.append(time.perf_counter() - started)
            cpus.append(time.process_time() - cpu)
            await asyncio.sleep(0.05)
        for _ in range(5):
            started = time.perf_counter()
            await admin.backlog()
            whole.append(time.perf_counter() - started)
    found = sum(row.requests for row in rows)
    wall_ms, cpu_ms = median(walls) * 1000, median(cpus) * 1000
    verdict = "met" if wall_ms < 100 else "MISSED"
    sys.stdout.write(
        f"{_REAL} models on Kafka, {len(rows)} partitions, {found} requests waiting: a tick takes "
        f"{wall_ms:.0f} ms, {cpu_ms:.0f} ms of CPU (median of {_ROUNDS}, most {max(walls) * 1000:.0f} ms); "
        f"goal < 100 ms: {verdict}; reading all anew takes {median(whole) * 1000:.0f} ms\n"
    )


def from_memory() -> None:
    """1,000 models."""
    room = Room(_MADE, 7)
    each = _PARTITIONS // _MADE
    cpus = []
    for number in range(_ROUNDS):
        room.beat(number)
        rows = [
            PartitionBacklog(slug, LANES[part % 3], part // 3, int(index % 10 == 0), 1, number)
            for index, slug in enumerate(room.slugs)
            for part in range(each)
        ]
        now_s = 1000.0 + number * 0.5
        cpu = time.process_time()
        if number % _LOOK == 0:
            room.look(now_s)
        room.decide(rows, now_s)
        cpus.append(time.process_time() - cpu)
    cpu_ms = median(cpus) * 1000
    verdict = "met" if cpu_ms < 200 else "MISSED"
    sys.stdout.write(
        f"{_MADE} models, {each * _MADE} partitions, from memory: a tick takes {cpu_ms:.0f} ms of CPU "
        f"(median of {_ROUNDS}, most {max(cpus) * 1000:.0f} ms); goal < 200 ms: {verdict}\n"
    )


def main() -> None:
    """Measure."""
    logging.basicConfig(level=logging.WARNING)
    from_memory()
    try:
        uvloop.run(on_kafka())
    except StackError as error:
        raise SystemExit(f"scaler_tick: {error}") from None


if __name__ == "__main__":
    main()
