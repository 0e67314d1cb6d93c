"""How many requests come in a second, from the ends of the logs. Pure.

What is planned ahead is what comes steadily. A burst is in the backlog already, and to expect it again would
start workers for nothing: of a window's twelve parts the two fullest do not count. The window is as long as
what is planned, so that no more is expected than has come in as long a time.
"""

import math
from collections import deque
from typing import Final

_INTERVAL_S: Final = 5.0
_LEAST_S: Final = 60.0
_MOST_S: Final = 1800.0
_PARTS: Final = 12
_DROPPED: Final = 2
"""A burst lies in so many parts at most."""


class Arrivals:
    """Of one model. Fed with the number of all requests there ever were."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._counts: deque[int] = deque([0], maxlen=int(_MOST_S / _INTERVAL_S) + 1)
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
            self.last_s = now_s
        passed = int((now_s - self._began_s) / _INTERVAL_S)
        if passed > 0:
            self._counts.extend([0] * min(passed, self._counts.maxlen or 0))
            self._began_s += passed * _INTERVAL_S
        self._counts[-1] += new

    def per_s(self, now_s: float, window_s: float) -> float:
        """Requests a second that come steadily, by the latest window of about this length."""
        window_s = min(max(window_s, _LEAST_S), _MOST_S)
        if self.last_s is None or now_s - self.last_s > window_s:
            return 0.0
        size = math.ceil(window_s / _PARTS / _INTERVAL_S)
        whole = list(self._counts)[-1 - size * _PARTS : -1]
        parts = sorted(sum(whole[at : at + size]) for at in range(0, len(whole), size))
        # What was before there was anything counts as nothing.
        return sum(parts[:-_DROPPED]) / ((_PARTS - _DROPPED) * size * _INTERVAL_S)
