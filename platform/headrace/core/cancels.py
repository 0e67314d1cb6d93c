"""Cancels that were heard of, for requests that have not started here yet."""

from typing import Final

_KEEP_S: Final = 3600.0
_MAX: Final = 100_000


class Cancels:
    """Request ids to leave alone, each for an hour; bounded, the oldest go first."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._trusted: set[str] = set()

    def add(self, request_id: str, now_s: float, *, trusted: bool = True) -> None:
        """Remember a cancel; `trusted` when it is a gateway's."""
        if trusted:
            self._trusted.add(request_id)
        self._until.pop(request_id, None)
        self._until[request_id] = now_s + _KEEP_S
        # Insertion order is expiry order.
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now_s and len(self._until) <= _MAX:
                return
            del self._until[oldest]
            self._trusted.discard(oldest)

    def has(self, request_id: str, *, trusted: bool = True) -> bool:
        """Whether the request was cancelled; a gateway's (`trusted`) only by a gateway."""
        return request_id in (self._trusted if trusted else self._until)
