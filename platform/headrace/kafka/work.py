"""A worker's share of its group: fetch, hand out, track, commit. The shell round `core.share`.

Order for every record: its fate is acknowledged by the broker, then `complete`, then a commit.

Fetching runs by itself and fills a window, so that a slot that comes free is filled at once, whatever the
broker does meanwhile; the window decides who is next (`core.window`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata

from headrace.contracts.events import Handover, Obituary
from headrace.contracts.topics import LANES, Lane, Topics
from headrace.core.assignment import Owner
from headrace.core.offsets import MAX_SPAN, Commit, Tracker
from headrace.core.ports import Place, Record
from headrace.core.share import Part, Share
from headrace.core.window import Tenant, Window
from headrace.kafka.assignor import lane_assignor
from headrace.kafka.consumer import consumer
from headrace.kafka.records import record
from headrace.settings import Settings

_log = logging.getLogger(__name__)

_COMMIT_TIMEOUT_S: Final = 5.0
_REVOKE_COMMIT_S: Final = 2.0
_TOGETHER_S: Final = 0.01
"""Requests of one step of an engine end within so long of one another: they are committed together."""
_MAX_POLL_INTERVAL_MS: Final = 600_000
# Well under the poll interval, well over the length of a busy moment: pausing throws away what was fetched.
_HOLD_PAUSE_S: Final = 30.0
_POLL_S: Final = 0.5
# While a lane's window is full it is left out of polls, and looked at again after so long.
_FULL_POLL_S: Final = 0.02
_AGAIN_S: Final = 0.1


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
    def lanes(self) -> Mapping[str, Lane]:
        """The lane topics, in order of service."""
        return {self.topics.requests(self.slug, lane): lane for lane in LANES}


@dataclass(frozen=True, slots=True)
class WorkRules:
    """How a worker takes its share.

    window: requests fetched ahead, in each lane. tenant_of: whose a record is, for fairness.
    before_new: awaited before anything is read of partitions that are new here, so that all that was said
        about them is known first.
    report: publishes what becomes of lost partitions' requests.
    """

    window: int = 256
    tenant_of: Callable[[Record], Tenant] = lambda _: None
    before_new: Callable[[], Awaitable[None]] | None = None
    report: Callable[[Handover], Awaitable[None]] | None = None


class WorkConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Fills `core.ports.WorkSource`."""

    def __init__(
        self, settings: Settings, work: WorkTopics, worker_id: str, rules: WorkRules | None = None
    ) -> None:
        self._settings = settings
        self.group = work.group
        self.lanes = work.lanes
        self._worker_id = worker_id
        self._rules = rules or WorkRules()
        self._raw: Any = None
        self._share = Share(worker_id)
        self._window = Window(self._rules.tenant_of)
        self._committed: dict[Part, Commit] = {}
        # Closed from the moment partitions are taken away until trackers exist for the new ones: aiokafka
        # hands out records while the assignment callback still runs.
        self._assigned = asyncio.Event()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._completed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._paused = False
        self._fault: Exception | None = None
        self.joined = asyncio.Event()
        self.run = f"-1:{worker_id}"
        """Generation and worker."""

    @property
    def member_id(self) -> str | None:
        """This worker's id in the group, for its obituary."""
        coordinator = self._raw._coordinator if self._raw is not None else None
        return (coordinator.member_id or None) if coordinator is not None else None

    @property
    def partitions(self) -> frozenset[Part]:
        """What is ours now."""
        return frozenset(self._share.trackers)

    @property
    def skipped(self) -> int:
        """Offsets that count as done and were never requests of ours: markers, aborted records."""
        return self._share.skipped

    @property
    def _generation(self) -> int:
        coordinator = self._raw._coordinator if self._raw is not None else None
        return int(coordinator.generation) if coordinator is not None else -1

    async def start(self) -> None:
        """Begin to join the group; `joined` is set with the first assignment."""
        self._raw = await self._connect()
        self._raw.subscribe(list(self.lanes), listener=self)
        self._tasks = [asyncio.create_task(self._tick_regularly()), asyncio.create_task(self._fetch())]

    async def stop(self) -> None:
        """Commit what is done and leave the group."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._raw is not None:
            self._put_back()
            await self.commit(_COMMIT_TIMEOUT_S)
            await self._report()
            raw, self._raw = self._raw, None
            await raw.stop()

    async def take(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Requests to start now, in order. Waits up to `timeout_s` when there are none."""
        taken = self._window.take(max_records)
        if not taken:
            self._arrived.clear()
            self._raise_fault()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
            taken = self._window.take(max_records)
        self._room.set()
        return taken

    def complete(self, place: Place) -> None:
        """The request's fate is durable."""
        self._share.complete(place)
        self._completed.set()

    def abort(self, place: Place) -> None:
        """The request was given up without a fate: whoever has its partition runs it anew."""
        self._share.abort(place)

    def buried(self, event: Obituary) -> None:
        """A worker is dead: what it held is free."""
        if event.group == self.group and self._share.buried(event.worker):
            self._room.set()

    def told(self, event: Handover) -> None:
        """Another worker's word on requests of a partition that it has lost."""
        if self._share.told(event):
            self._room.set()

    async def commit(self, timeout_s: float) -> None:
        """Commit what has changed. Failure is harmless: only finished work is ever committed."""
        await self._commit(self._share.changed(), timeout_s)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """A rebalance begins: commit and go on. Draining here would stop every member of the group."""
        self._assigned.clear()
        self._put_back()
        await self._commit(self._share.leaving(time.time()), _REVOKE_COMMIT_S)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Keep the trackers of partitions that stayed; restore those of new ones from their commits."""
        try:
            await self._accept(assigned)
        except Exception as error:
            self._fault = error  # aiokafka only logs it
            self._arrived.set()
            raise

    async def _accept(self, assigned: Collection[TopicPartition]) -> None:
        fresh = [tp for tp in assigned if tp not in self._share.trackers]
        if fresh and self._rules.before_new is not None:
            await self._rules.before_new()
        commits = await self._commits(fresh)
        self._put_back()
        kept = self._share.assign(assigned, commits, time.time())
        self._committed = {part: commit for part, commit in self._committed.items() if part in kept}
        for part, offset in kept.items():
            # aiokafka goes back to the committed offset; what ran meanwhile need not be read again.
            self._raw.seek(TopicPartition(*part), offset)
        if self._paused:
            self._raw.pause(*assigned)
        self.run = f"{self._generation}:{self._worker_id}"
        _log.info("generation %d: partitions %s", self._generation, sorted({tp.partition for tp in assigned}))
        self._assigned.set()
        self.joined.set()

    def _put_back(self) -> None:
        """What nobody has begun is read again, by whoever has the partition then."""
        for waiting in self._window.drain():
            self._share.abort(waiting.place)

    async def _commits(self, partitions: Sequence[TopicPartition]) -> dict[Part, Commit | None]:
        if not partitions:
            return {}
        # Public `committed()` drops the metadata.
        found = await self._raw._coordinator.fetch_committed_offsets(partitions)
        return {tp: _as_commit(found.get(tp)) for tp in partitions}

    async def _fetch(self) -> None:
        """Fill the window, for ever."""
        while True:
            try:
                await self._until_assigned()
                self._go_back()
                open_ = self._open()
                if open_:
                    await self._poll(open_)
                else:
                    await self._wait_for_room()
            except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
                found = error.args[0]
                await self._look_for(found if isinstance(found, dict) else {found: -1})
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(_AGAIN_S)

    async def _until_assigned(self) -> None:
        """Wait for partitions, and hear why there will be none.

        It counts as a poll, also of who has no partitions: aiokafka has who does not poll for long leave the
        group, and does not let it back.
        """
        with self._raw._subscription.fetch_context():
            while not self._assigned.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._assigned.wait()
                self._raw._coordinator.check_errors()

    async def _poll(self, open_: Sequence[TopicPartition]) -> None:
        """Those polled that are ours, and neither running nor done, go into the window."""
        self._resume()
        before = self._share.trackers
        is_all = len(open_) == len(before)
        room = min(self._rules.window - self._window.waiting(lane) for lane in self._lanes_of(open_))
        polled = await self._raw.getmany(
            *open_, timeout_ms=int((_POLL_S if is_all else _FULL_POLL_S) * 1000), max_records=room
        )
        await self._assigned.wait()
        for tp, batch in polled.items():
            tracker = self._share.trackers.get(tp)
            if tracker is None:
                continue  # lost: its new owner reads it
            if tracker is not before.get(tp):
                # Lost and come back while we polled: the tracker must see everything from its commit on.
                self._raw.seek(tp, tracker.resume())
                continue
            self._window.add(
                self.lanes[tp.topic], [record(raw) for raw in batch if tracker.start(raw.offset)]
            )
        if not polled:
            self._pass_what_is_not_there(before)
        if self._window:
            self._arrived.set()
            await asyncio.sleep(0)  # they start before we look for more

    def _pass_what_is_not_there(self, read: Mapping[Part, Tracker]) -> None:
        """At the end of a partition may stand aborted requests, and markers of transactions: no backlog.

        Only after a poll and before anything is awaited is all below the position in its tracker.
        """
        assignment = self._raw._subscription.subscription.assignment
        for part, tracker in self._share.trackers.items():
            state = assignment.state_value(TopicPartition(*part))
            if tracker is read.get(part) and state is not None and state.has_valid_position:
                self._share.passed(part, state.position)

    async def _look_for(self, missing: Mapping[TopicPartition, int]) -> None:
        """Kafka has nothing at these offsets: read on from where its log begins.

        A log that ends below them is another one: its topic was made anew, or Kafka has lost its end. There
        nothing is done, whatever was committed; what still runs of the old one must end first.
        """
        before = self._share.trackers
        try:
            starts = await self._raw.beginning_offsets(list(missing))
        except KafkaError as error:
            _log.warning("beginnings not known, will ask again: %r", error)
            starts = {}
        await self._assigned.wait()
        for tp, start in starts.items():
            tracker = self._share.trackers.get(tp)
            if tracker is None or tracker is not before.get(tp):
                continue
            if start <= missing[tp]:
                self._put_back()
                if tracker.running:
                    continue
                _log.warning("%s[%d] ends below %d: reading all of it", tp.topic, tp.partition, missing[tp])
                self._share.begin_anew(tp, start)
            self._raw.seek(tp, start)
        await asyncio.sleep(_AGAIN_S)

    def _go_back(self) -> None:
        """Read again what has become free."""
        for part, offset in self._share.reread().items():
            self._raw.seek(TopicPartition(*part), offset)

    def _open(self) -> list[TopicPartition]:
        """Partitions of lanes with room, whose oldest unfinished request is not too far behind."""
        window = self._rules.window
        full = {topic for topic, lane in self.lanes.items() if self._window.waiting(lane) >= window}
        return [
            TopicPartition(*part)
            for part, tracker in self._share.trackers.items()
            if part[0] not in full and tracker.span < MAX_SPAN
        ]

    def _lanes_of(self, partitions: Sequence[TopicPartition]) -> set[Lane]:
        return {self.lanes[topic] for topic in {tp.topic for tp in partitions}}

    async def _wait_for_room(self) -> None:
        """Stay a member meanwhile: held for long, all partitions are paused and polled.

        All or none: with only some paused, the others wait for the long poll that runs for both.
        """
        self._room.clear()
        try:
            async with asyncio.timeout(_HOLD_PAUSE_S):
                await self._room.wait()
        except TimeoutError:
            if self._assigned.is_set() and self._share.trackers:
                self._raw.pause(*(TopicPartition(*part) for part in self._share.trackers))
                self._paused = True
                # Empty, unless a rebalance has forgotten the pause: then these are ours all the same.
                stray = await self._raw.getmany(timeout_ms=0)
                for tp in stray:
                    self._raw.seek(tp, stray[tp][0].offset)

    def _resume(self) -> None:
        if self._paused:
            self._raw.resume(*self._raw.paused())
            self._paused = False

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _commit(self, changed: Mapping[Part, Commit], timeout_s: float) -> None:
        changed = {part: commit for part, commit in changed.items() if self._committed.get(part) != commit}
        if not changed:
            return
        offsets = {
            TopicPartition(*part): OffsetAndMetadata(commit.offset, commit.metadata)
            for part, commit in changed.items()
        }
        try:
            async with asyncio.timeout(timeout_s):
                await self._raw.commit(offsets)
        except asyncio.CancelledError:
            self._share.again(changed)  # by the last one, when we are stopped meanwhile
            raise
        except (CommitFailedError, IllegalStateError) as error:
            _log.debug("commit refused, the group is moving on: %r", error)
            self._share.again(changed)  # those that stay ours are committed after the rebalance
        except (TimeoutError, KafkaError) as error:
            _log.warning("commit failed, will be repeated: %r", error)
            self._share.again(changed)
        else:
            self._committed.update(changed)

    async def _tick_regularly(self) -> None:
        """After a pause what is done is committed at once, then an interval apart: a kill repeats less."""
        interval_s = self._settings.worker.commit_interval_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._completed.wait()
                await asyncio.sleep(_TOGETHER_S)
            self._completed.clear()
            if self._share.expire(time.time()):
                self._room.set()
            if self._assigned.is_set():
                await self.commit(_COMMIT_TIMEOUT_S)
            await self._report()
            await asyncio.sleep(interval_s)

    async def _report(self) -> None:
        if self._rules.report is not None:
            for event in self._share.reports(time.time()):
                await self._rules.report(event)

    async def _connect(self) -> Any:
        settings = self._settings.worker
        return await consumer(
            self._settings.kafka,
            self._worker_id,
            group=self.group,
            partition_assignment_strategy=[lane_assignor(self._owned)],
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            # How soon a member hears of a rebalance: whoever joins waits for half of it on average.
            heartbeat_interval_ms=500,
            rebalance_timeout_ms=30_000,
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            # We look ourselves why Kafka has nothing there: see `_look_for`.
            auto_offset_reset="none",
            # Short waits help only where some partitions are paused and others wait for the same poll; here
            # all are or none. At 100 ms an idle worker and its broker spent 5 % of a core on asking.
            fetch_max_wait_ms=500,
            fetch_max_bytes=8 * 2**20,
            max_partition_fetch_bytes=2 * 2**20,
        )

    def _owned(self) -> Owner:
        return Owner(self._generation, frozenset(partition for _, partition in self._share.trackers))


def _as_commit(found: OffsetAndMetadata | None) -> Commit | None:
    if found is None or found.offset < 0:
        return None
    return Commit(found.offset, found.metadata or "")
