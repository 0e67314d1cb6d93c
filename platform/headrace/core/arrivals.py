"""How many requests come in a second, from the ends of the logs. Pure.

What is planned ahead is what comes steadily. A burst is in the backlog already, and to expect it again would
start workers for nothing: of a window's twelve parts the two fullest do not count. The window is as long as
what is planned ahead, but reaches no further back than to where requests began to come, so that what has come
for a minute is expected to go on: for as long as it went on before, where that is known. When none has come
for as long as ten usually take, it has ended.
"""

from bisect import bisect_right
from collections import deque
from typing import Final

from headrace.core.spells import Spells

_INTERVAL_S: Final = 5.0
_LEAST_S: Final = 60.0
_MOST_S: Final = 1800.0
_PARTS: Final = 12
_DROPPED: Final = 2
"""A burst lies in so many parts at most."""
_ENDED: Final = 10
"""By chance alone so many do not stay away once in ten thousand times."""


class Arrivals:
    """Of one model. Fed with the number of all requests there ever were.

    spells_s: for how long they came before, where that is known.
    """

    def __init__(self, spells_s: tuple[float, ...] = ()) -> None:
        self._total: int | None = None
        self._came = 0
        # How many had come at the end of each interval, the latest last.
        self._ends: deque[int] = deque([0], maxlen=int(_MOST_S / _INTERVAL_S) + 1)
        self._began_s = 0.0
        self._rate: tuple[float, float, float] | None = None
        self._spells = Spells(spells_s)
        self._ahead_s = _LEAST_S
        self.last_s: float | None = None

    @property
    def total(self) -> int:
        """Requests there ever were, as last told."""
        return self._total or 0

    @property
    def spells_s(self) -> tuple[float, ...]:
        """For how long they have come, each time; the latest, oldest first."""
        return self._spells.lengths_s

    def tell(self, total: int, now_s: float) -> None:
        """So many are there now. What was there before the first call has not just arrived."""
        if self._total is None:
            self._total, self._began_s = total, now_s
            if total:
                self._spells.join(now_s)
        if now_s < self._began_s:  # the clock was set back
            self._began_s = now_s
            self.last_s = None if self.last_s is None else min(self.last_s, now_s)
        passed = int((now_s - self._began_s) / _INTERVAL_S)
        if passed > 0:
            self._ends.extend([self._came] * min(passed, self._ends.maxlen or 0))
            self._began_s += passed * _INTERVAL_S
        if total > self._total:
            self._came += total - self._total
            self._spells.tell(now_s, self._ahead_s)
            self.last_s = now_s
        self._total = total

    def per_s(self, now_s: float, window_s: float) -> float:
        """Requests a second to be expected for so long, by the latest window of about this length."""
        self._ahead_s, window_s = window_s, min(max(window_s, _LEAST_S), _MOST_S)
        if self.last_s is None or now_s - self.last_s > window_s:
            return 0.0
        per_s = self._steady_per_s(window_s)
        if per_s and now_s - self.last_s > max(_INTERVAL_S, _ENDED / per_s):
            return 0.0
        return per_s * self._spells.share(self._ahead_s, now_s)

    def _steady_per_s(self, window_s: float) -> float:
        """As `per_s` while requests come; worked out once in each interval."""
        if self._rate is not None and self._rate[:2] == (self._began_s, window_s):
            return self._rate[2]
        last = len(self._ends) - 1
        first = max(0, last - int(window_s / _INTERVAL_S))
        began = bisect_right(self._ends, self._ends[first], first) - 1
        size = max(_LEAST_S / _INTERVAL_S, last - began) / _PARTS
        bounds = [round(last - part * size) for part in range(_PARTS + 1)]
        # What was before there was anything counts as nothing.
        ends = [self._ends[max(0, bound)] for bound in bounds]
        parts = sorted(
            ((ends[part] - ends[part + 1]) / (bounds[part] - bounds[part + 1]), part)
            for part in range(_PARTS)
        )[:-_DROPPED]
        came = sum(ends[part] - ends[part + 1] for _, part in parts)
        per_s = came / (sum(bounds[part] - bounds[part + 1] for _, part in parts) * _INTERVAL_S)
        self._rate = (self._began_s, window_s, per_s)
        return per_s
