"""The worker's loop: take -> start -> finish -> complete.

No record is completed before its fate is durable: answered, or dead-lettered and answered. Requests finish
out of order; what is committed is `core.offsets`' business.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from headrace.contracts.errors import (
    BodyTooLarge,
    HeadraceError,
    InternalError,
    RequestCancelled,
    RequestExpired,
    Unavailable,
)
from headrace.contracts.events import ModelDeployed
from headrace.contracts.states import State
from headrace.contracts.topics import Topics
from headrace.core.answers import Outcome, failure
from headrace.core.cancels import Cancels
from headrace.core.identity import Trust, may_cancel
from headrace.core.letters import letter, without_value
from headrace.core.ports import Engine, Place, Publisher, Record, WorkSource
from headrace.worker.execution import execute
from headrace.worker.intake import ANYBODY, Job, Refusal, read
from headrace.worker.replies import Replies

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.25
_SWEEP_S: Final = 0.25
_RETRY_S: Final = 1.0
_STARTS: Final = 16
"""Requests begun between two turns of the event loop."""


@dataclass(slots=True)
class _Running:
    """A request in flight. `verdict`: why we stopped it, when we did."""

    task: asyncio.Task[None]
    request_id: str | None = None
    expires_at_s: float | None = None
    verdict: tuple[State, HeadraceError] | None = None
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with."""

    deployed: ModelDeployed
    engine: Engine
    source: WorkSource
    publisher: Publisher
    replies: Replies
    cancels: Cancels
    topics: Topics
    capacity: int
    trust: Trust = ANYBODY


@dataclass(slots=True)
class Counts:
    """What this worker has done."""

    completed: int = 0
    by_state: dict[State, int] = field(default_factory=dict)


class Loop:
    """Serves requests until told to stop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._running: dict[Place, _Running] = {}
        self._freed = asyncio.Event()
        self._fault: Exception | None = None
        self.counts = Counts()

    @property
    def in_flight(self) -> int:
        """Requests running now."""
        return len(self._running)

    async def run(self, stop: asyncio.Event) -> None:
        """Take and start requests until `stop` is set."""
        sweeper = asyncio.create_task(self._sweep_regularly())
        try:
            while not stop.is_set() and self._fault is None:
                free = self._parts.capacity - len(self._running)
                if free <= 0:
                    await self._wait_for_slot()
                    continue
                for record in await self._parts.source.take(min(free, _STARTS), _POLL_S):
                    self._start(record)
                # They start before we look for more, so that the first answers leave while others begin.
                await asyncio.sleep(0)
        finally:
            sweeper.cancel()
        if self._fault is not None:
            raise self._fault

    async def drain(self, timeout_s: float) -> int:
        """Let what runs finish, abort what does not in time; returns how many were aborted.

        The aborted are not completed, so another worker gets them.
        """
        tasks = [running.task for running in self._running.values()]
        if not tasks:
            return 0
        _log.info("draining %d requests", len(tasks))
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _start(self, record: Record) -> None:
        task = asyncio.create_task(self._serve(record))
        self._running[record.place] = _Running(task)

    async def _wait_for_slot(self) -> None:
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._freed.wait()

    async def _serve(self, record: Record) -> None:
        """One record to its fate, then complete."""
        try:
            await self._settle(record)
            self._parts.source.complete(record.place)
        except asyncio.CancelledError:
            _log.info("request at %s aborted by the drain; another worker gets it", record.place)
            self._parts.source.abort(record.place)
            raise
        except Exception as error:  # noqa: BLE001  # kept in _fault, raised by run()
            # Not even a dead letter could be written, for a reason that is not Kafka's absence. Nothing is
            # committed for the record; the process ends, and whoever takes over sees it again.
            _log.exception("request at %s has no fate", record.place)
            self._fault = error
        finally:
            self._running.pop(record.place, None)
            self._freed.set()

    async def _settle(self, record: Record) -> None:
        what = read(record, self._parts.deployed, time.time(), self._parts.trust)
        while True:
            try:
                await (self._refuse(what) if isinstance(what, Refusal) else self._run(what))
            except Unavailable as error:
                _log.warning("request %s waits for Kafka: %s", what.head.id, error)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                if isinstance(what, Refusal):
                    raise
                _log.exception("request %s: a fault of ours", what.head.id)
                fault = InternalError("The worker failed on this request; it has been set aside for a look")
                what = Refusal(record, what.head, fault, dead_letter=True)
            else:
                return

    async def _run(self, job: Job) -> None:
        parts, running = self._parts, self._running[job.record.place]
        running.request_id, running.trusted = job.head.id, job.trusted
        running.expires_at_s = job.expires_at_s
        reply = await parts.replies.open(job.head, parts.source.run, trusted=job.trusted)
        if parts.cancels.has(job.head.id, trusted=job.trusted):
            outcome = _stopped(State.CANCELLED, RequestCancelled("The request was cancelled"))
        else:
            try:
                outcome = await execute(parts.engine, job.call, reply.chunk)
            except asyncio.CancelledError:
                if running.verdict is None:
                    raise
                asyncio.current_task().uncancel()  # type: ignore[union-attr]  # we are in a task
                outcome = _stopped(*running.verdict)
        # From here on the answer exists: neither the sweep nor a cancel may take it back.
        running.expires_at_s = running.request_id = None
        await reply.finish(outcome)
        self._count(outcome)

    async def _refuse(self, refusal: Refusal) -> None:
        _log.info("request %s refused: %s", refusal.head.id, refusal.error.message)
        if refusal.dead_letter:
            await self._set_aside(refusal)
        state = State.EXPIRED if isinstance(refusal.error, RequestExpired) else State.FAILED
        outcome = failure(refusal.error, state)
        reply = await self._parts.replies.open(refusal.head, self._parts.source.run, trusted=refusal.trusted)
        await reply.finish(outcome)
        self._count(outcome)

    async def _set_aside(self, refusal: Refusal) -> None:
        """Dead-letter a record: its bytes, where it came from and why."""
        sent = letter(self._parts.topics, refusal.record, refusal.error, refusal.head.id.encode())
        try:
            receipt = await self._parts.publisher.send(sent)
        except BodyTooLarge:
            receipt = await self._parts.publisher.send(without_value(sent))
        await receipt

    def _count(self, outcome: Outcome) -> None:
        self.counts.completed += 1
        self.counts.by_state[outcome.state] = self.counts.by_state.get(outcome.state, 0) + 1

    async def _sweep_regularly(self) -> None:
        """Stop what is past its deadline or was cancelled. One sweep instead of a timer per request."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = time.time()
            for running in list(self._running.values()):
                if running.verdict is not None:
                    continue
                if running.expires_at_s is not None and running.expires_at_s <= now_s:
                    late = RequestExpired("The request's deadline passed while it was running")
                    running.verdict = (State.EXPIRED, late)
                    running.task.cancel()

    def cancel(self, request_id: str, *, trusted: bool = True) -> None:
        """Stop the request if it runs here; only a gateway (`trusted`) stops a gateway's."""
        for running in self._running.values():
            if not may_cancel(cancel_trusted=trusted, request_trusted=running.trusted):
                continue
            if running.request_id == request_id and running.verdict is None:
                running.verdict = (State.CANCELLED, RequestCancelled("The request was cancelled"))
                running.task.cancel()


def _stopped(state: State, error: HeadraceError) -> Outcome:
    return failure(error, state)
