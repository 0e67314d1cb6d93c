"""For how long requests come, once they have begun to, by how long they came before. Pure.

Where they come for half a minute every ten minutes, no more are to be expected after the first half minute.
"""

import math
from typing import Final

_REMEMBERED: Final = 32
_FEW: Final = 3
"""From so many spells on, something is known."""
_LONGER: Final = 1.1
"""The next one may be a little longer than one that was as long."""


class Spells:
    """Of one model. Fed with every moment at which requests came.

    lengths_s: of the latest, oldest first; those of before, where some are known.
    """

    def __init__(self, lengths_s: tuple[float, ...] = ()) -> None:
        self.lengths_s = lengths_s
        self._began_s = self._last_s = -math.inf

    def join(self, now_s: float) -> None:
        """Nobody has seen whether some came until now; what goes on has begun at no known time."""
        self._began_s, self._last_s = -math.inf, now_s

    def tell(self, now_s: float, ahead_s: float) -> None:
        """Some came. ahead_s: how far is planned ahead; what comes again within that is of the same spell."""
        if now_s - self._last_s > ahead_s:
            if self._began_s > -math.inf:
                self.lengths_s = (*self.lengths_s, self._last_s - self._began_s)[-_REMEMBERED:]
            self._began_s = now_s
        self._last_s = now_s

    def share(self, ahead_s: float, now_s: float) -> float:
        """For how much of the time ahead they go on to come, on the average of spells no shorter than this.

        1 where this one is longer than all before it, or too few are known.
        """
        if len(self.lengths_s) < _FEW or ahead_s <= 0:
            return 1.0
        lasted_s, age_s = self._last_s - self._began_s, now_s - self._began_s
        longer_s = [_LONGER * each for each in self.lengths_s if _LONGER * each >= lasted_s]
        if not longer_s:
            return 1.0
        left_s = (min(max(0.0, each - age_s), ahead_s) for each in longer_s)
        return sum(left_s) / (len(longer_s) * ahead_s)
