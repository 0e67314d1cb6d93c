"""Whose turn it is where not every model can have a worker: who has been left out for longest. Pure.

Whoever has some keeps them for a while, so that starts cost little of the time; then it is behind those that
have waited meanwhile.
"""

import math
from dataclasses import dataclass
from typing import Final

_STARTS: Final = 10.0
"""Cold starts: so long a model keeps its turn, and a minute at least."""
_LEAST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Of one model. since_s: since when it has had workers, or has been left out; None: it wants none."""

    since_s: float | None = None
    has_some: bool = False

    def told(self, wanted: int, given: int, now_s: float) -> "Turn":
        """With what it has been given now."""
        if not wanted:
            return Turn()
        if self.since_s is None or self.has_some != (given > 0):
            return Turn(now_s, given > 0)
        return Turn(min(self.since_s, now_s), self.has_some)

    def delayed(self, now_s: float) -> "Turn":
        """It cannot begin before others have ended: its turn begins then."""
        return Turn(now_s, True) if self.has_some else self

    def at_s(self, cold_start_s: float, now_s: float) -> float:
        """Where it stands in the queue: whose is lower comes first."""
        if self.since_s is None:
            return now_s
        if not self.has_some:
            return self.since_s
        is_over = now_s - self.since_s >= max(_LEAST_S, _STARTS * cold_start_s)
        return now_s if is_over else -math.inf
