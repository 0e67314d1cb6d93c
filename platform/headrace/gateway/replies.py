"""From the reply partition to the callers who wait."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts.errors import HeadraceError, InternalError, RequestExpired
from headrace.core.ports import Reader, Record
from headrace.gateway.claims import NOWHERE
from headrace.gateway.waiting import GONE, Waiting

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
# Whoever leaves sooner saves nothing worth a watcher for every request.
_TICK_S: Final = 0.25
# A worker that sees the deadline says so itself; this is how long its word may take.
_GRACE_S: Final = 1.0


class Replies:
    """All who wait at this gateway, by request id.

    cancel: called with a request id and the reason, for a request that nobody waits for any more.
    """

    def __init__(self, keepalive_s: float, cancel: Callable[[str, str], None]) -> None:
        self._waiting: dict[bytes, Waiting] = {}
        self._keepalive_s = keepalive_s
        self._cancel = cancel
        self.unknown = 0
        self.collector = NOWHERE

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, waiting: Waiting) -> None:
        """Someone begins to wait."""
        self._waiting[waiting.key] = waiting

    def remove(self, waiting: Waiting) -> None:
        """Someone waits no longer."""
        self._waiting.pop(waiting.key, None)
        if waiting.watcher is not None:
            waiting.watcher.cancel()

    def pass_on(self, waiting: Waiting, gone: Callable[[], Awaitable[None]]) -> None:
        """Another connection waits for the same answer; the one before may be gone."""
        if waiting.watcher is not None:
            waiting.watcher.cancel()
        waiting.gone, waiting.watcher = gone, None

    def deliver(self, record: Record) -> None:
        """Hand a reply to whoever waits for it. Others' replies are none of our business."""
        waiting = self._waiting.get(record.headers.get(h.CAUSATION_ID, b""))
        if waiting is None:
            self.unknown += 1
            return
        if h.DATA_REF in record.headers and waiting.needs_value(record):
            self.collector.begin(record, lambda whole: self._hand(waiting, whole), waiting.fail)
        else:
            self._hand(waiting, record)

    def _hand(self, waiting: Waiting, record: Record) -> None:
        try:
            waiting.take(record)
        except Exception:  # noqa: BLE001  # one bad record must not keep all others from their answers
            _log.exception("reply at %s cannot be read", record.place)
            waiting.fail(InternalError("The answer that came cannot be read"))

    def tick(self, now_s: float) -> None:
        """Time passes: deadlines, signs of life, and a look at callers who wait for long."""
        for waiting in list(self._waiting.values()):
            if waiting.future.done():
                continue
            if waiting.expires_s + _GRACE_S < now_s:
                waiting.fail(RequestExpired("No answer came before the deadline; the request was cancelled"))
                self._cancel(waiting.request_id, "its deadline passed")
                continue
            waiting.tick(now_s, self._keepalive_s)
            if waiting.watcher is None and waiting.gone is not None:
                waiting.watcher = asyncio.create_task(self._watch(waiting))

    def give_up(self, error: HeadraceError) -> None:
        """Nobody gets an answer any more: this gateway ends."""
        for waiting in list(self._waiting.values()):
            if not waiting.future.done():
                waiting.fail(error)
                self._cancel(waiting.request_id, "its gateway stopped")

    async def follow(self, reader: Reader) -> None:
        """Deliver for ever."""
        while True:
            for record in await reader.poll(_POLL_S):
                self.deliver(record)
            await asyncio.sleep(0)  # callers first: polling again takes longer than their next step

    async def sweep(self) -> None:
        """Tick for ever: one clock for all, instead of timers for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_S)
            self.tick(loop.time())

    async def _watch(self, waiting: Waiting) -> None:
        if waiting.gone is not None:
            await waiting.gone()
        await asyncio.sleep(waiting.grace_s)
        if not waiting.future.done():
            waiting.end(GONE)
            self._cancel(waiting.request_id, "the caller left")
