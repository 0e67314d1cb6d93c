"""From the reply partition to the callers who wait."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import HeadraceError, InternalError, RequestExpired
from headrace.core.ports import Reader, Record
from headrace.core.reassembly import Reassembly

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_SWEEP_S: Final = 0.25
# A worker that sees the deadline says so itself; this is how long its word may take.
_GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A final reply: HTTP status and exact body."""

    http_status: int
    value: bytes


class Waiting:
    """A caller who waits for one answer. `expires_s`: loop time."""

    __slots__ = ("expires_s", "future", "request_id")

    def __init__(self, request_id: str, expires_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self.request_id = request_id
        self.expires_s = expires_s
        self.future: asyncio.Future[Answer] = loop.create_future()

    def take(self, record: Record) -> None:
        """A reply record with our id."""
        if replies.final_state(record.headers) is not None and not self.future.done():
            status = int(record.headers.get(h.HTTP_STATUS, b"200"))
            self.future.set_result(Answer(status, record.value or b""))

    def leave(self) -> None:
        """The caller is gone."""
        self.future.cancel()

    def fail(self, error: HeadraceError) -> None:
        """End the waiting."""
        if not self.future.done():
            self.future.set_exception(error)


class WaitingStream(Waiting):
    """A caller who waits for a stream: chunks in `queue`, then the end in `future`."""

    __slots__ = ("_stream", "queue")

    def __init__(self, request_id: str, expires_s: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(request_id, expires_s, loop)
        self._stream = Reassembly()
        # Bounded by the answer's length, which the model's limits bound. None wakes the reader at the end.
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def take(self, record: Record) -> None:
        """A reply record with our id."""
        if self.future.done():
            return
        step = self._stream.take(replies.read(record.headers), record.value or b"")
        for value in step.values:
            self.queue.put_nowait(value)
        if step.broken is not None:
            self.fail(InternalError(step.broken))
        elif step.ended:
            super().take(record)
            self.queue.put_nowait(None)

    def leave(self) -> None:
        """The caller is gone."""
        super().leave()
        self.queue.put_nowait(None)

    def fail(self, error: HeadraceError) -> None:
        """End the waiting."""
        super().fail(error)
        self.queue.put_nowait(None)


class Replies:
    """All who wait at this gateway, by request id."""

    def __init__(self, on_expired: Callable[[str], None]) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._on_expired = on_expired
        self.unknown = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, waiting: Waiting) -> None:
        """Someone begins to wait."""
        self._waiting[waiting.request_id] = waiting

    def remove(self, waiting: Waiting) -> None:
        """Someone waits no longer."""
        self._waiting.pop(waiting.request_id, None)

    def deliver(self, record: Record) -> None:
        """Hand a reply to whoever waits for it. Others' replies are none of our business."""
        request_id = record.headers.get(h.CAUSATION_ID, b"").decode(errors="replace")
        waiting = self._waiting.get(request_id)
        if waiting is None:
            self.unknown += 1
            return
        try:
            waiting.take(record)
        except (HeadraceError, ValueError) as error:
            _log.warning("reply at %s cannot be read: %s", record.place, error)

    async def follow(self, reader: Reader) -> None:
        """Deliver for ever."""
        while True:
            for record in await reader.poll(_POLL_S):
                self.deliver(record)

    async def sweep(self) -> None:
        """Expire for ever. One sweep instead of a timer per request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = loop.time()
            for waiting in [w for w in self._waiting.values() if w.expires_s + _GRACE_S < now_s]:
                waiting.fail(RequestExpired("No answer came before the deadline; the request was cancelled"))
                self._on_expired(waiting.request_id)
