"""What pauses, spells and lulls have taught of one model, for whoever scales it next. Pure.

Only what has ended is told. Nobody sees what goes on while no scaler acts, so that a pause, a spell or a lull
that was going on then is none.
"""

from typing import Final, NamedTuple

_LULLS: Final = 1024
"""Of all numbers of workers together: a record of about 10 kB at most."""
_LEAST: Final = 4
"""Of each number: with fewer nothing would be known of it."""
_PLACES: Final = 1


class Experience(NamedTuple):
    """The latest lengths, oldest first, as the three remember them.

    lulls_s: of one worker, of two, and so on.
    """

    pauses_s: tuple[float, ...] = ()
    spells_s: tuple[float, ...] = ()
    lulls_s: tuple[tuple[float, ...], ...] = ()

    def brief(self) -> "Experience":
        """As it is written down: rounded, and fewer of each number of workers where there are many."""
        each = max(_LEAST, _LULLS // max(1, len(self.lulls_s)))
        return Experience(
            _rounded(self.pauses_s),
            _rounded(self.spells_s),
            tuple(_rounded(lengths_s[-each:]) for lengths_s in self.lulls_s),
        )


def _rounded(lengths_s: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(length_s, _PLACES) for length_s in lengths_s)
