"""A worker's share of its group: take in lane order, track, commit. The shell round `core.offsets`.

Order for every record: its fate is acknowledged by the broker, then `complete`, then a commit.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from headrace.contracts.topics import LANES, Topics
from headrace.core.assignment import Owner
from headrace.core.offsets import MAX_SPAN, Commit, Tracker
from headrace.core.ports import Place, Record
from headrace.kafka.assignor import lane_assignor
from headrace.kafka.connection import arguments, start_patiently
from headrace.kafka.reader import close
from headrace.kafka.records import record
from headrace.settings import Settings

_log = logging.getLogger(__name__)

_COMMIT_TIMEOUT_S: Final = 5.0
_REVOKE_COMMIT_S: Final = 2.0
_MAX_POLL_INTERVAL_MS: Final = 600_000
# Well under the poll interval, well over the length of a busy moment: pausing throws away what was fetched.
_HOLD_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class WorkTopics:
    """What one model's workers read: its lanes, as one group."""

    topics: Topics
    slug: str

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.topics.group(self.slug)

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lane topics, in order of service."""
        return tuple(self.topics.requests(self.slug, lane) for lane in LANES)


class WorkConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Fills `core.ports.WorkSource`."""

    def __init__(self, settings: Settings, work: WorkTopics, worker_id: str) -> None:
        self._settings = settings
        self._work = work
        self._worker_id = worker_id
        self._raw: Any = None
        self._trackers: dict[TopicPartition, Tracker] = {}
        self._committed: dict[TopicPartition, Commit] = {}
        self._dirty: set[TopicPartition] = set()
        # Closed from the moment partitions are taken away until trackers exist for the new ones: aiokafka
        # hands out records while the assignment callback still runs.
        self._assigned = asyncio.Event()
        self.joined = asyncio.Event()
        self._held_since_s: float | None = None
        self._paused = False
        self._committer: asyncio.Task[None] | None = None

    @property
    def run(self) -> str:
        """Generation and worker."""
        return f"{self._generation}:{self._worker_id}"

    @property
    def member_id(self) -> str | None:
        """This worker's id in the group, for its obituary."""
        coordinator = self._raw._coordinator if self._raw is not None else None
        return (coordinator.member_id or None) if coordinator is not None else None

    @property
    def _generation(self) -> int:
        coordinator = self._raw._coordinator if self._raw is not None else None
        return int(coordinator.generation) if coordinator is not None else -1

    async def start(self) -> None:
        """Begin to join the group; `joined` is set with the first assignment."""
        self._raw = await start_patiently(self._build, close, self._settings.kafka)
        self._raw.subscribe(self._work.lanes, listener=self)
        self._committer = asyncio.create_task(self._commit_regularly())

    async def stop(self) -> None:
        """Commit what is done and leave the group."""
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        if self._raw is not None:
            await self.commit(_COMMIT_TIMEOUT_S)
            raw, self._raw = self._raw, None
            await raw.stop()

    async def take(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Requests to start now, higher lanes first. Waits up to `timeout_s` when there are none."""
        if not self._assigned.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._assigned.wait()
            except TimeoutError:
                return []
        self._release()
        started: list[Record] = []
        try:
            await self._take(started, max_records, timeout_s)
        except KafkaError as error:
            if not error.retriable:
                raise
            # What was registered before the error is in flight and must be run.
            await asyncio.sleep(min(timeout_s, 0.1))
        return started

    def complete(self, place: Place) -> None:
        """The request's fate is durable."""
        partition = TopicPartition(place.topic, place.partition)
        tracker = self._trackers.get(partition)
        if tracker is not None:
            tracker.complete(place.offset)
            self._dirty.add(partition)

    async def hold(self) -> None:
        """Take nothing for now. Held for long, all partitions are paused and polled, to stay a member.

        All or none: with only some paused, the others wait for the long poll that runs for both.
        """
        loop = asyncio.get_running_loop()
        if self._held_since_s is None:
            self._held_since_s = loop.time()
        elif loop.time() - self._held_since_s > _HOLD_PAUSE_S and self._assigned.is_set():
            self._raw.pause(*self._trackers)
            self._paused = True
            # Empty, unless a rebalance has forgotten the pause: then these are ours to run all the same.
            stray = await self._raw.getmany(timeout_ms=0)
            for partition in stray:
                self._raw.seek(partition, stray[partition][0].offset)
            self._held_since_s = loop.time()

    async def commit(self, timeout_s: float) -> None:
        """Commit what has changed. Failure is harmless: only finished work is ever committed."""
        changed = {tp: self._trackers[tp].commit() for tp in self._dirty if tp in self._trackers}
        self._dirty.clear()
        changed = {tp: commit for tp, commit in changed.items() if self._committed.get(tp) != commit}
        if not changed:
            return
        offsets = {tp: OffsetAndMetadata(commit.offset, commit.metadata) for tp, commit in changed.items()}
        try:
            async with asyncio.timeout(timeout_s):
                await self._raw.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            _log.debug("commit refused, the group is moving on: %r", error)
            self._dirty.update(changed)  # those that stay ours are committed after the rebalance
        except (TimeoutError, KafkaError) as error:
            _log.warning("commit failed, will be repeated: %r", error)
            self._dirty.update(changed)
        else:
            self._committed.update(changed)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """A rebalance begins: commit and go on. Draining here would stop every member of the group."""
        self._assigned.clear()
        await self.commit(_REVOKE_COMMIT_S)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Keep the trackers of partitions that stayed; restore those of new ones from their commits."""
        kept = {tp: self._trackers[tp] for tp in assigned if tp in self._trackers}
        fresh = [tp for tp in assigned if tp not in kept]
        self._trackers = kept | {tp: Tracker(commit) for tp, commit in (await self._commits(fresh)).items()}
        self._committed = {tp: commit for tp, commit in self._committed.items() if tp in kept}
        for tp, tracker in kept.items():
            # aiokafka goes back to the committed offset; what ran meanwhile need not be read again.
            self._raw.seek(tp, tracker.next_unseen)
        if self._paused:
            self._raw.pause(*assigned)
        _log.info("generation %d: partitions %s", self._generation, sorted({tp.partition for tp in assigned}))
        self._assigned.set()
        self.joined.set()

    async def _commits(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Commit | None]:
        if not partitions:
            return {}
        # Public `committed()` drops the metadata.
        found = await self._raw._coordinator.fetch_committed_offsets(partitions)
        return {tp: _as_commit(found.get(tp)) for tp in partitions}

    async def _take(self, started: list[Record], max_records: int, timeout_s: float) -> None:
        for topic in self._work.lanes:
            if (free := max_records - len(started)) <= 0:
                return
            if partitions := self._open(topic):
                started += await self._poll(partitions, free, 0.0)
        if started:
            return
        partitions = [tp for topic in self._work.lanes for tp in self._open(topic)]
        if partitions:
            started += await self._poll(partitions, max_records, timeout_s)
        else:
            await asyncio.sleep(timeout_s)

    async def _poll(
        self, partitions: Sequence[TopicPartition], max_records: int, timeout_s: float
    ) -> list[Record]:
        """Those polled that are ours, and neither running nor done; from now on they run."""
        before = self._trackers
        polled = await self._raw.getmany(
            *partitions, timeout_ms=int(timeout_s * 1000), max_records=max_records
        )
        await self._assigned.wait()
        started: list[Record] = []
        for tp, batch in polled.items():
            tracker = self._trackers.get(tp)
            if tracker is None:
                continue  # lost: its new owner reads it
            if tracker is not before[tp]:
                # Lost and come back while we polled: the tracker must see everything from its commit on.
                self._raw.seek(tp, tracker.next_unseen)
                continue
            started += [record(raw) for raw in batch if tracker.start(raw.offset)]
        return started

    def _open(self, topic: str) -> list[TopicPartition]:
        """The topic's partitions whose oldest unfinished request is not too far behind."""
        return [tp for tp, tracker in self._trackers.items() if tp.topic == topic and tracker.span < MAX_SPAN]

    def _release(self) -> None:
        self._held_since_s = None
        if self._paused:
            self._raw.resume(*self._raw.paused())
            self._paused = False

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._settings.worker.commit_interval_s)
            if self._dirty and self._assigned.is_set():
                await self.commit(_COMMIT_TIMEOUT_S)

    def _build(self) -> Any:
        settings = self._settings.worker
        return AIOKafkaConsumer(
            **arguments(self._settings.kafka, client_id=self._worker_id),
            group_id=self._work.group,
            partition_assignment_strategy=[lane_assignor(self._owned)],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            heartbeat_interval_ms=1_000,
            rebalance_timeout_ms=30_000,
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            # Short waits help only where some partitions are paused and others wait for the same poll; here
            # all are or none. At 100 ms an idle worker and its broker spent 5 % of a core on asking.
            fetch_max_wait_ms=500,
            fetch_max_bytes=8 * 2**20,
            max_partition_fetch_bytes=2 * 2**20,
        )

    def _owned(self) -> Owner:
        return Owner(self._generation, frozenset(tp.partition for tp in self._trackers))


def _as_commit(found: OffsetAndMetadata | None) -> Commit | None:
    if found is None or found.offset < 0:
        return None
    return Commit(found.offset, found.metadata or "")
