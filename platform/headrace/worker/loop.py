"""The worker's loop: take -> start -> finish -> complete.

No record is completed before its fate is durable: answered, or dead-lettered and answered. Requests finish
out of order; what is committed is `core.offsets`' business.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts.errors import (
    EngineCrashed,
    EngineDied,
    EngineFailed,
    HeadraceError,
    InternalError,
    RequestCancelled,
    RequestExpired,
    Unavailable,
)
from headrace.contracts.events import ModelDeployed
from headrace.contracts.states import State
from headrace.core.answers import Outcome, failure
from headrace.core.blame import GUILTY
from headrace.core.cancels import Cancels
from headrace.core.deadlines import run_until_s
from headrace.core.duplicates import Duplicates
from headrace.core.identity import Trust, may_cancel
from headrace.core.occupancy import Occupancy, Occupied
from headrace.core.ports import Engine, Place, Record, WorkSource
from headrace.core.rendering import render
from headrace.core.suspects import Suspects
from headrace.telemetry.context import REQUEST_ID
from headrace.telemetry.worker import UNTOLD, Work, WorkerTelemetry
from headrace.worker.canary import Canary
from headrace.worker.execution import execute, respond
from headrace.worker.fates import Fates
from headrace.worker.intake import ANYBODY, Job, Refusal, read
from headrace.worker.journal import Journal
from headrace.worker.replies import Replies, Reply

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.25
_SWEEP_S: Final = 0.25
_RETRY_S: Final = 1.0
_HEED_S: Final = 5.0
_STARTS: Final = 16
"""Requests begun between two turns of the event loop."""


_CANCELLED: Final = failure(RequestCancelled("The request was cancelled"), State.CANCELLED)
_LATE: Final = failure(RequestExpired("The request's deadline passed while it was running"), State.EXPIRED)


@dataclass(slots=True)
class _Running:
    """A request in flight. `verdict`: how it ends, when we stopped it. has_run: the engine was asked."""

    task: asyncio.Task[None]
    began_s: float
    request_id: str | None = None
    expires_at_s: float | None = None
    verdict: Outcome | None = None
    trusted: bool = True
    is_job: bool = False
    has_run: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with. `journal` None: nobody would read it. `canary` None: nobody looks."""

    deployed: ModelDeployed
    engine: Engine
    source: WorkSource
    replies: Replies
    fates: Fates
    capacity: int
    told: WorkerTelemetry = UNTOLD
    cancels: Cancels = field(default_factory=Cancels)
    trust: Trust = ANYBODY
    suspects: Suspects = field(default_factory=Suspects)
    journal: Journal | None = None
    duplicates: Duplicates = field(default_factory=Duplicates)
    canary: Canary | None = None


class Loop:
    """Serves requests until told to stop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._running: dict[Place, _Running] = {}
        self._occupancy = Occupancy()
        self._freed = asyncio.Event()
        self.settled = 0
        """Records whose fate is durable."""
        self.body_bytes = 0
        """Of those that were run."""
        self._fault: Exception | None = None

    @property
    def in_flight(self) -> int:
        """Requests running now."""
        return len(self._running)

    async def watch(self) -> str:
        """Look after the engine; returns why, when it is no longer well."""
        parts = self._parts
        if parts.canary is None:
            return await asyncio.Future()
        # A canary would wait behind the callers of a full engine, and say nothing of it.
        return await parts.canary.watch(
            lambda: len(self._running) >= min(parts.capacity, parts.engine.capacity)
        )

    @property
    def occupied(self) -> Occupied:
        """How busy it has been until now."""
        return self._occupancy.until(time.monotonic())

    def jobs(self, limit: int) -> tuple[str, ...]:
        """Ids of some of the jobs that run now."""
        found = (r.request_id for r in self._running.values() if r.is_job and r.request_id is not None)
        return tuple(islice(found, limit))

    async def run(self, stop: asyncio.Event) -> None:
        """Take and start requests until `stop` is set.

        Raises:
            EngineDied: the engine is gone. What is in flight is as it was when it died.
        """
        sweeper = asyncio.create_task(self._sweep_regularly())
        try:
            while not stop.is_set() and self._fault is None:
                await self._turn()
        finally:
            sweeper.cancel()
        if self._fault is not None:
            raise self._fault

    async def _turn(self) -> None:
        suspects = self._parts.suspects
        if suspects:
            for record in suspects.take(self._free, len(self._running)):
                self._start(record)
        if self._free <= 0 or (suspects and suspects.wants_alone):
            await self._wait_for_slot()
            return
        for record in await self._parts.source.take(min(self._free, _STARTS), _POLL_S):
            if not (suspects and suspects.add(record)):
                self._start(record)
        # They start before we look for more, so that the first answers leave while others begin.
        await asyncio.sleep(0)

    @property
    def _free(self) -> int:
        return self._parts.capacity - len(self._running)

    async def drain(self, timeout_s: float) -> int:
        """Let what runs finish, abort what does not in time; returns how many were aborted.

        The aborted are not completed, so another worker gets them.
        """
        for record in self._parts.suspects.drain():
            self._parts.source.abort(record.place)
        tasks = [running.task for running in self._running.values()]
        if not tasks:
            return 0
        _log.info("draining %d requests", len(tasks))
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            # Code in a thread may never heed it; whoever waits for us ends the process.
            await asyncio.wait(late, timeout=_HEED_S)
        return len(late)

    def _start(self, record: Record) -> None:
        place, journal = record.place, self._parts.journal
        if journal is not None:
            journal.mark(place, self._parts.suspects.crashes(place))
        now_s = time.monotonic()
        self._occupancy.begin(now_s)
        self._running[place] = _Running(asyncio.create_task(self._serve(record)), now_s)

    def _end(self, place: Place) -> None:
        """It runs no more, and nothing has crashed."""
        ended = self._running.pop(place, None)
        if ended is not None:
            self._occupancy.end(ended.began_s, time.monotonic())
        if self._parts.suspects:
            self._parts.suspects.done(place)
        if self._parts.journal is not None:
            self._parts.journal.clear(place)

    async def _wait_for_slot(self) -> None:
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._freed.wait()

    async def _serve(self, record: Record) -> None:
        """One record to its fate, then complete."""
        try:
            await self._settle(record)
            self._end(record.place)
            self.settled += 1
            self._parts.source.complete(record.place)
        except asyncio.CancelledError:
            _log.info("request at %s aborted by the drain; another worker gets it", record.place)
            self._end(record.place)
            self._parts.source.abort(record.place)
            raise
        except EngineDied as error:
            # In flight it stays, for the obituary to say so: it may be the cause.
            _log.error("request at %s: %s", record.place, error)  # told from the engine's log
            self._fault = error
        except Exception as error:  # noqa: BLE001  # kept in _fault, raised by run()
            # Not even a dead letter could be written, for a reason that is not Kafka's absence. Nothing is
            # committed for the record; the process ends, and whoever takes over sees it again.
            _log.exception("request at %s has no fate", record.place)
            self._end(record.place)
            self._fault = error
        finally:
            self._freed.set()

    async def _settle(self, record: Record) -> None:
        what = self._read(record)
        REQUEST_ID.set(what.head.id)
        if isinstance(what, Job) and self._is_duplicate(what):
            _log.info("request %s at %s is one that came before", what.head.id, record.place)
            return
        while True:
            try:
                if isinstance(what, Refusal):
                    await self._parts.fates.refuse(what, self._parts.source.run)
                else:
                    await self._run(what)
            except EngineDied:
                raise
            except Unavailable as error:
                _log.warning("request %s waits for Kafka: %s", what.head.id, error)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                if isinstance(what, Refusal):
                    raise
                _log.exception("request %s: a fault of ours", what.head.id)
                fault = InternalError("The worker failed on this request; it has been set aside for a look")
                what = Refusal(record, what.head, fault, dead_letter=True, trusted=what.trusted)
            else:
                return

    def _is_duplicate(self, job: Job) -> bool:
        # A dead letter that somebody sends again has the id of its first run.
        is_replay = h.REPLAY_OF in job.record.headers
        return not is_replay and self._parts.duplicates.is_one(job.head, job.record.place)

    def _read(self, record: Record) -> Job | Refusal:
        parts = self._parts
        what = read(record, parts.deployed, time.time(), parts.trust)
        if isinstance(what, Job) and parts.suspects and parts.suspects.crashes(record.place) >= GUILTY:
            guilty = EngineCrashed(f"This request ended its engine {GUILTY} times, at last alone")
            return Refusal(record, what.head, guilty, dead_letter=True, trusted=what.trusted)
        return what

    async def _run(self, job: Job) -> None:
        parts, running = self._parts, self._running[job.record.place]
        running.request_id, running.trusted = job.head.id, job.trusted
        running.expires_at_s = run_until_s(job.expires_at_s, job.head, parts.deployed, time.time())
        running.is_job = job.head.is_kept
        work = parts.told.begin(job.record, job.call)
        try:
            reply = await parts.replies.open(job.head, parts.source.run, trusted=job.trusted)
            found = await self._attempt(job, reply, work)
            if running.has_run:
                self.body_bytes += len(job.record.value or b"")
            # From here on its fate is decided: neither the sweep nor a cancel may change it.
            running.expires_at_s = running.request_id = None
            work.attempted(found)
            self._learn(found)
            if isinstance(found, Outcome):
                await parts.fates.answer(reply, found, has_run=running.has_run)
            else:
                await parts.fates.fail(job, found, reply)
        finally:
            work.end()

    def _learn(self, found: Outcome | HeadraceError) -> None:
        """What it says of the engine."""
        canary = self._parts.canary
        if canary is None:
            return
        if isinstance(found, EngineFailed):
            canary.doubted()
        elif isinstance(found, Outcome) and found.state in (State.COMPLETED, State.INCOMPLETE):
            canary.answered()

    async def _attempt(self, job: Job, reply: Reply, work: Work) -> Outcome | HeadraceError:
        """Run it: how it ended, or why the engine failed."""
        parts, running = self._parts, self._running[job.record.place]
        if parts.cancels.has(job.head.id, job.head.batch_id, trusted=job.trusted):
            return _CANCELLED
        running.has_run = True
        try:
            if job.responder is not None:
                return await respond(parts.engine, job.call, job.responder, work.emitting(reply.chunk))
            outcome = await execute(parts.engine, job.call, work.emitting(reply.chunk))
            if job.form.is_plain:
                return outcome
            value = render(outcome.value, job.form)
            return outcome._replace(value=value, content_type=job.form.content_type)
        except asyncio.CancelledError:
            if running.verdict is None:
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # we are in a task
            return running.verdict
        except HeadraceError as error:
            return error

    async def _sweep_regularly(self) -> None:
        """Stop what is past its deadline or was cancelled. One sweep instead of a timer per request."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = time.time()
            for running in list(self._running.values()):
                if running.verdict is not None:
                    continue
                if running.expires_at_s is not None and running.expires_at_s <= now_s:
                    running.verdict = _LATE
                    running.task.cancel()

    def cancel(self, request_id: str, *, trusted: bool = True) -> None:
        """Stop the request if it runs here; only a gateway (`trusted`) stops a gateway's."""
        for running in self._running.values():
            if not may_cancel(cancel_trusted=trusted, request_trusted=running.trusted):
                continue
            if running.request_id == request_id and running.verdict is None:
                running.verdict = _CANCELLED
                running.task.cancel()
