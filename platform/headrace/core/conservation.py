"""Whether every request is accounted for: what is committed as done, beside what workers say they did. Pure.

Neither count knows the other: one is read from the logs' ends and the group's commits, the other from
heartbeats. Each lags a moment behind what really is done, and they begin at different numbers. Whatever their
difference is, it never changes, and it lies between what was committed a while ago less what is told now, and
what is committed now less what was told a while ago. When no difference fits all that was seen, requests are
missing.
"""

import math
from collections import deque
from typing import Final

WINDOW_S: Final = 10.0
"""No count lags for longer: a heartbeat, a commit, and a look at the commits of an idle group."""
_TOLD_S: Final = 600.0
"""An error that has not changed for so long is told no more, and the account begins anew."""


class Account:
    """Of one model."""

    def __init__(self) -> None:
        self._history: deque[tuple[float, int, int]] = deque()
        self._least = -math.inf
        self._most = math.inf
        self._committed = 0
        self._since_s = 0.0
        self.error = 0
        """Requests: positive when they are committed and nobody tells of them; negative when they were done
        and are not committed, so that they will be done again."""

    def tell(self, committed: int, told: int, now_s: float, *, is_watched: bool = True) -> int:
        """Both counts as they are now; gives the error.

        is_watched: whether a worker is there to tell. What ends without one was late or cancelled.
        """
        if not is_watched and committed > self._committed:
            self.restart()
        self._committed = committed
        self._history.append((now_s, committed, told))
        while len(self._history) > 1 and self._history[1][0] <= now_s - WINDOW_S:
            self._history.popleft()
        at_s, committed_then, told_then = self._history[0]
        if at_s > now_s - WINDOW_S:
            return self.error
        before, self.error = self.error, self._compared(committed_then - told, committed - told_then)
        if self.error != before:
            self._since_s = now_s
        elif self.error and now_s - self._since_s > _TOLD_S:
            self.restart()
        return self.error

    def restart(self) -> None:
        """Something has ended without a last word: both counts begin anew."""
        self._history.clear()
        self._least, self._most, self.error = -math.inf, math.inf, 0

    def _compared(self, least: int, most: int) -> int:
        """How far the difference, which lies between these now, is from where it lay before."""
        if least > self._most:
            return int(least - self._most)
        if most < self._least:
            return int(most - self._least)
        self._least, self._most = max(self._least, least), min(self._most, most)
        return 0
