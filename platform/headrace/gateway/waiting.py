"""Those who wait for an answer: a caller for a whole one, a caller for a stream.

The outcome is always a value, never an exception: how a request ended is news to pass on, whoever ended it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import HeadraceError, InternalError
from headrace.core.limits import Standing
from headrace.core.ports import Record
from headrace.core.reassembly import Reassembly


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended: HTTP status and exact body.

    queued: the request is in Kafka, so that sending it again would run it twice.
    """

    http_status: int
    value: bytes
    queued: bool = True
    content_type: bytes = h.JSON

    @property
    def is_error(self) -> bool:
        """Whether the body is an error."""
        return self.http_status >= 400


GONE: Final = Answer(499, b"")
"""The caller has left; nobody is there to be told."""


class Waiting:
    """A caller who waits for one answer. `expires_s`: loop time."""

    __slots__ = ("expires_s", "future", "gone", "grace_s", "key", "request_id", "standing", "watcher")

    def __init__(self, request_id: str, expires_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self.request_id = request_id
        self.key = request_id.encode()
        self.expires_s = expires_s
        self.future: asyncio.Future[Answer] = loop.create_future()
        self.gone: Callable[[], Awaitable[None]] | None = None
        """Returns when the caller has left."""
        self.watcher: asyncio.Task[None] | None = None
        self.standing: Standing | None = None
        """What its tenant had left when it came."""
        self.grace_s = 0.0
        """How long it goes on when its caller has left."""

    def take(self, record: Record) -> None:
        """A reply record with our id."""
        if replies.final_state(record.headers) is not None:
            headers = record.headers
            status = int(headers.get(h.HTTP_STATUS, b"200"))
            self.end(Answer(status, record.value or b"", content_type=headers.get(h.CONTENT_TYPE, h.JSON)))

    def needs_value(self, record: Record) -> bool:
        """Whether a reply record's value is of use to the caller, so that it is worth fetching."""
        return not self.future.done() and replies.final_state(record.headers) is not None

    def end(self, answer: Answer) -> None:
        """The first end wins."""
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: HeadraceError, *, queued: bool = True) -> None:
        """End with an error of ours."""
        self.end(Answer(error.kind.http_status, error.body(), queued))

    def tick(self, now_s: float, keepalive_s: float) -> None:
        """Time passes."""


class WaitingStream(Waiting):
    """A caller who waits for a stream."""

    __slots__ = ("_chunks", "_silent_since_s", "_stream", "_wake")

    def __init__(
        self, request_id: str, expires_s: float, loop: asyncio.AbstractEventLoop, *, usage: bool = False
    ) -> None:
        super().__init__(request_id, expires_s, loop)
        self._stream = Reassembly(usage=usage)
        # Bounded by the answer's length, which the model's limits bound.
        self._chunks: list[bytes] = []
        self._wake: asyncio.Future[None] | None = None
        self._silent_since_s = 0.0

    async def next(self, had: int = 0) -> Sequence[bytes] | None:
        """Chunks behind the first `had`; none of them after a long silence; None at the end."""
        if len(self._chunks) == had and not self.future.done():
            loop = self.future.get_loop()
            self._silent_since_s = loop.time()
            if self._wake is None or self._wake.done():
                self._wake = loop.create_future()
            # Several may read, when a client has sent its request again.
            await asyncio.shield(self._wake)
        ready = self._chunks[had:]
        return None if not ready and self.future.done() else ready

    def take(self, record: Record) -> None:
        """A reply record with our id."""
        if self.future.done():
            return
        step = self._stream.take(replies.read(record.headers), record.value or b"")
        if step.values:
            self._chunks += step.values
            self._rouse()
        if step.broken is not None:
            self.fail(InternalError(step.broken))
        elif step.ended:
            super().take(record)

    def needs_value(self, record: Record) -> bool:
        """Whether chunks were lost: without a gap the caller has the whole answer already."""
        return super().needs_value(record) and self._stream.needs_whole(replies.read(record.headers))

    def end(self, answer: Answer) -> None:
        """The first end wins."""
        super().end(answer)
        self._rouse()

    def tick(self, now_s: float, keepalive_s: float) -> None:
        """Let the caller have a sign of life after a long silence."""
        if now_s - self._silent_since_s >= keepalive_s:
            self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
