"""How long a model had nothing to do, and how long its workers are therefore kept the next time. Pure.

To keep a worker costs as long as it is kept; to let it go costs a start when work comes back, and those who
wait for it as much again. The limit is the one that would have cost least over the latest pauses: where work
comes back soon, workers stay until it does; where it never does, they go at once.
"""

import math
from collections.abc import Sequence
from typing import Final

_REMEMBERED: Final = 32
_FEW: Final = 3
"""From so many pauses on, something is known."""
_SHORTEST_S: Final = 10.0
"""What is shorter is no pause, and nobody goes before."""
PRICE: Final = 2.0
"""Of a restart, in cold starts: the start, and the wait for it."""
_LONGER: Final = 1.1
"""The next pause may be a little longer than one that was as long."""


class Pauses:
    """Of one model. Fed with every moment at which it has something to do.

    lengths_s: of the latest, oldest first; those of before, where some are known.
    """

    def __init__(self, lengths_s: tuple[float, ...] = ()) -> None:
        self.lengths_s = lengths_s
        self._busy_at_s: float | None = None

    def tell(self, now_s: float) -> None:
        """There is something to do now."""
        if self._busy_at_s is not None:
            self.lengths_s = lengthened(self.lengths_s, now_s - self._busy_at_s)
        self._busy_at_s = now_s


def lengthened(lengths_s: tuple[float, ...], length_s: float) -> tuple[float, ...]:
    """With one more, if it is a pause; the latest, oldest first."""
    if not _SHORTEST_S < length_s < math.inf:
        return lengths_s
    return (*lengths_s, length_s)[-_REMEMBERED:]


def keep_s(pauses_s: Sequence[float], price_s: float) -> float | None:
    """How long to keep workers that are not needed; None while too few pauses are known.

    price_s: what it costs to let them go and to start others, in seconds of a worker.
    """
    if len(pauses_s) < _FEW:
        return None
    ordered = sorted(pauses_s)
    best_s, least = _SHORTEST_S, len(ordered) * (_SHORTEST_S + price_s)
    passed_s = 0.0
    for number, pause_s in enumerate(ordered, start=1):
        passed_s += pause_s
        kept_s = pause_s * _LONGER
        if number < len(ordered) and ordered[number] <= kept_s:
            continue
        costs = passed_s + (len(ordered) - number) * (kept_s + price_s)
        if costs < least:
            best_s, least = kept_s, costs
    return best_s
