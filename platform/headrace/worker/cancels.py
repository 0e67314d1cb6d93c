"""Cancels that were heard of, for requests that have not started here yet."""

from typing import Final

_KEEP_S: Final = 3600.0
_MAX: Final = 100_000


class Cancels:
    """Request ids to leave alone, each for an hour; bounded, the oldest go first."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, request_id: str, now_s: float) -> None:
        """Remember a cancel."""
        self._until.pop(request_id, None)
        self._until[request_id] = now_s + _KEEP_S
        # Insertion order is expiry order.
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now_s and len(self._until) <= _MAX:
                return
            del self._until[oldest]

    def has(self, request_id: str) -> bool:
        """Whether the request was cancelled."""
        return request_id in self._until
