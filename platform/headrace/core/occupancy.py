"""How busy a worker has been: seconds with something to do, and seconds summed over its requests. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple


class Occupied(NamedTuple):
    """Running totals. busy_s: with at least one request. slot_s: of each that has ended, summed.

    held_s: the same, and of those that run what is longer than the mean; see `held_s`.
    """

    busy_s: float = 0.0
    slot_s: float = 0.0
    held_s: float = 0.0


class Occupancy:
    """Fed with every begin and end of a request."""

    def __init__(self) -> None:
        self._began_s: Counter[float] = Counter()
        self._since_s = 0.0
        self._busy_s = 0.0
        self._slot_s = 0.0
        self._ended = 0

    def begin(self, now_s: float) -> None:
        """One more runs."""
        self._pass(now_s)
        self._began_s[now_s] += 1

    def end(self, began_s: float, now_s: float) -> None:
        """One less, which began at `began_s`."""
        self._pass(now_s)
        self._began_s[began_s] -= 1
        self._began_s = +self._began_s
        self._slot_s += now_s - began_s
        self._ended += 1

    def until(self, now_s: float) -> Occupied:
        """The totals until now."""
        self._pass(now_s)
        ages_s = (now_s - began_s for began_s in self._began_s.elements())
        return Occupied(self._busy_s, self._slot_s, held_s(self._slot_s, self._ended, ages_s))

    def _pass(self, now_s: float) -> None:
        if self._began_s:
            self._busy_s += now_s - self._since_s
        self._since_s = now_s


def held_s(slot_s: float, ended: int, ages_s: Iterable[float]) -> float:
    """What requests have taken, those that run included as far as they prove to take longer than others.

    Of those that began together the shortest end first. By them alone all look short; with all the time of
    the others each looks longer than it is, where all take as long. What exceeds the mean of the ended says
    both.
    """
    if not ended:
        return 0.0
    mean_s = slot_s / ended
    return slot_s + sum(max(0.0, age_s - mean_s) for age_s in ages_s)
