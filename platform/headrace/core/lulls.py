"""How long each number of workers was more than was needed, until it was needed again. Pure.

What `core.pauses` asks of a model's last worker is asked here of each further one: to keep the fifth until
five are needed again, or to let it go and start another then, whichever would have cost less over the latest
times. Nobody waits for a fifth while four serve, so that a restart costs no more than the start.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.core.pauses import keep_s, lengthened


class Lull(NamedTuple):
    """Of one number of workers. since_s: since when fewer are needed; inf while they are not."""

    since_s: float = math.inf
    lengths_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Lulls:
    """Of one model. levels: the first of one worker, the second of two, and so on."""

    levels: tuple[Lull, ...] = ()
    needed: int = 0

    @classmethod
    def after(cls, lengths_s: Sequence[tuple[float, ...]]) -> "Lulls":
        """By those of before; since when how many are needed is not known."""
        return cls(tuple(Lull(lengths_s=each) for each in lengths_s))

    @property
    def lengths_s(self) -> tuple[tuple[float, ...], ...]:
        """Of each number of workers the latest, oldest first; up to the last number of which any is known."""
        found = [level.lengths_s for level in self.levels]
        while found and not found[-1]:
            found.pop()
        return tuple(found)

    def told(self, needed: int, now_s: float) -> "Lulls":
        """With what is needed now."""
        if needed == self.needed:
            return self
        levels = [*self.levels, *([Lull()] * (needed - len(self.levels)))]
        for at in range(self.needed, needed):
            since_s, lengths_s = levels[at]
            levels[at] = Lull(math.inf, lengthened(lengths_s, now_s - since_s))
        for at in range(needed, self.needed):
            levels[at] = levels[at]._replace(since_s=now_s)
        return Lulls(tuple(levels), needed)

    def kept(self, workers: int, cold_start_s: float, now_s: float) -> int:
        """How many of so many are to be kept: those of which too little is known stay."""
        if workers > len(self.levels):
            return workers
        for number in range(workers, 0, -1):
            since_s, lengths_s = self.levels[number - 1]
            enough_s = keep_s(lengths_s, price_s=cold_start_s)
            if enough_s is None or now_s - since_s < enough_s:
                return number
        return 0
