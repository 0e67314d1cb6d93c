"""How busy a worker has been: seconds with something to do, and seconds summed over its requests. Pure."""

from typing import NamedTuple


class Occupied(NamedTuple):
    """Running totals. busy_s: with at least one request. slot_s: of each that has ended, summed.

    held_s: of each, so far, summed.
    """

    busy_s: float = 0.0
    slot_s: float = 0.0
    held_s: float = 0.0


class Occupancy:
    """Fed with every begin and end of a request."""

    def __init__(self) -> None:
        self._running = 0
        self._since_s = 0.0
        self._busy_s = 0.0
        self._slot_s = 0.0
        self._held_s = 0.0

    def begin(self, now_s: float) -> None:
        """One more runs."""
        self._pass(now_s)
        self._running += 1

    def end(self, began_s: float, now_s: float) -> None:
        """One less, which began at `began_s`."""
        self._pass(now_s)
        self._running -= 1
        self._slot_s += now_s - began_s

    def until(self, now_s: float) -> Occupied:
        """The totals until now."""
        self._pass(now_s)
        return Occupied(self._busy_s, self._slot_s, self._held_s)

    def _pass(self, now_s: float) -> None:
        if self._running:
            self._busy_s += now_s - self._since_s
            self._held_s += self._running * (now_s - self._since_s)
        self._since_s = now_s
