"""How many requests come in a second, from the ends of the logs. Pure.

What is planned ahead is what comes steadily. A burst is in the backlog already, and to expect it again would
start workers for nothing: of the last minute's intervals the fullest do not count.
"""

from collections import deque
from typing import Final

_INTERVAL_S: Final = 5.0
_INTERVALS: Final = 12
_DROPPED: Final = 2
"""A burst lies in so many intervals at most."""


class Arrivals:
    """Of one model. Fed with the number of all requests there ever were."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._counts: deque[int] = deque(maxlen=_INTERVALS)
        self._began_s = 0.0
        self.last_s: float | None = None

    @property
    def total(self) -> int:
        """Requests there ever were, as last told."""
        return self._total or 0

    def tell(self, total: int, now_s: float) -> None:
        """So many are there now. What was there before the first call has not just arrived."""
        if self._total is None:
            self._total, self._began_s = total, now_s
        new = max(0, total - self._total)
        self._total = total
        if new:
            if self.last_s is None or now_s - self.last_s > _INTERVALS * _INTERVAL_S:
                self._counts.clear()
                self._began_s = now_s
            self.last_s = now_s
        if not self._counts:
            self._counts.append(0)
        while now_s - self._began_s >= _INTERVAL_S:
            self._counts.append(0)
            self._began_s += _INTERVAL_S
            if now_s - self._began_s > _INTERVALS * _INTERVAL_S:
                self._began_s = now_s
        self._counts[-1] += new

    def per_s(self, now_s: float) -> float:
        """Requests a second that come steadily; 0 until there are three whole intervals."""
        if self.last_s is None or now_s - self.last_s > _INTERVALS * _INTERVAL_S:
            return 0.0
        whole = sorted(list(self._counts)[:-1])
        counted = whole[:-_DROPPED]
        return sum(counted) / (len(counted) * _INTERVAL_S) if counted else 0.0
