"""Cancels that were heard of, for requests that have not started here yet."""

from typing import Final

from headrace.core.lines import BATCH_PREFIX

_KEEP_S: Final = 3600.0
_KEEP_BATCH_S: Final = 8 * 86_400.0
"""As long as its lines may lie in a lane."""
_MAX: Final = 100_000


class Cancels:
    """Ids of requests and of whole batches to leave alone; bounded, the oldest go first.

    A request's is kept for an hour, a batch's for as long as its lines may lie in Kafka.
    """

    def __init__(self) -> None:
        self._requests = _Kept(_KEEP_S)
        self._batches = _Kept(_KEEP_BATCH_S)

    def add(self, cancelled_id: str, now_s: float, *, trusted: bool = True) -> None:
        """Remember a cancel of a request or a batch; `trusted` when it is a gateway's."""
        kept = self._batches if cancelled_id.startswith(BATCH_PREFIX) else self._requests
        kept.add(cancelled_id, now_s, trusted=trusted)

    def has(self, request_id: str, batch_id: str | None = None, *, trusted: bool = True) -> bool:
        """Whether the request, or its batch, was cancelled; a gateway's (`trusted`) only by a gateway."""
        if batch_id is not None and self._batches.has(batch_id, trusted=trusted):
            return True
        return self._requests.has(request_id, trusted=trusted)


class _Kept:
    """Ids, each for `keep_s`."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._until: dict[str, float] = {}
        self._trusted: set[str] = set()

    def add(self, cancelled_id: str, now_s: float, *, trusted: bool) -> None:
        if trusted:
            self._trusted.add(cancelled_id)
        self._until.pop(cancelled_id, None)
        self._until[cancelled_id] = now_s + self._keep_s
        # Insertion order is expiry order.
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now_s and len(self._until) <= _MAX:
                return
            del self._until[oldest]
            self._trusted.discard(oldest)

    def has(self, cancelled_id: str, *, trusted: bool) -> bool:
        return cancelled_id in (self._trusted if trusted else self._until)
