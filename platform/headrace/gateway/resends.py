"""Requests that an SDK sends again, because its connection broke: they find the one that still runs.

OpenAI's clients count their sendings in `x-stainless-retry-count`, and send no key of idempotency.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

from headrace.gateway.waiting import Waiting

GRACE_S: Final = 10.0
"""How long a request whose caller has left goes on, for a resend to find it. Clients wait up to 8 s."""
_KEPT_S: Final = 30.0
_MAX: Final = 1_000
"""Answers kept for those who did not hear them."""


class _Ended(NamedTuple):
    waiting: Waiting
    at_s: float


class Resends:
    """The requests of clients that count: while they run, and a while longer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running: dict[bytes, Waiting] = {}
        # In the order of their ends.
        self._ended: dict[bytes, _Ended] = {}

    def find(self, told: bytes) -> Waiting | None:
        """The same request, if it still runs or has ended well a moment ago."""
        self._forget()
        running = self._running.get(told)
        if running is not None:
            return running
        ended = self._ended.get(told)
        return None if ended is None else ended.waiting

    def note(self, told: bytes, waiting: Waiting) -> None:
        """A client that counts has sent this."""
        self._forget()
        waiting.grace_s = GRACE_S
        self._running[told] = waiting
        self._ended.pop(told, None)
        waiting.future.add_done_callback(lambda _: self._end(told, waiting))

    def _end(self, told: bytes, waiting: Waiting) -> None:
        if self._running.get(told) is not waiting:
            return
        del self._running[told]
        if not waiting.future.cancelled() and not waiting.future.result().is_error:
            self._ended[told] = _Ended(waiting, self._clock())

    def _forget(self) -> None:
        now_s = self._clock()
        while self._ended:
            told, (_, at_s) = next(iter(self._ended.items()))
            if at_s + _KEPT_S >= now_s and len(self._ended) <= _MAX:
                return
            del self._ended[told]


def fingerprint(tenant: bytes | None, path: str, body: bytes) -> bytes:
    """Tells requests apart."""
    told = blake2b(body, digest_size=16, key=blake2b(b"%s\0%s" % (tenant or b"", path.encode())).digest())
    return told.digest()
