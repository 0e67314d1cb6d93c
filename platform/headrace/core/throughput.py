"""Whether more workers have brought more: what is done in a second, with fewer and with more of them. Pure.

Where all that workers wait for is one database or one disk, more of them change nothing. It shows only while
all have their hands full, and only in enough requests: a tenth more workers must be told from chance.
"""

from typing import Final, NamedTuple

_GAIN: Final = 0.25
"""Of the gain in proportion to the workers: with less, more have brought nothing."""
_PROOF: Final = 32.0
"""Requests that tell a doubling from chance; for a smaller gain, more by its square."""
_LEAST_S: Final = 60.0
"""Requests of one kind come together: a shorter time says more about them than about the workers."""
_AGAIN_S: Final = 900.0
"""After so long it is tried again."""


class _Stretch(NamedTuple):
    """A time with as many workers, all of them full."""

    warm: int
    since_s: float
    done: int
    from_done: int
    until_s: float

    @property
    def per_s(self) -> float:
        """Requests done in a second."""
        return self.done / (self.until_s - self.since_s)

    def proves(self, more: float) -> bool:
        """Whether it is long enough to tell whether workers that are `more` of these brought anything."""
        return self.until_s - self.since_s >= _LEAST_S and self.done >= _PROOF / min(more, 1.0) ** 2


class Throughput:
    """Of one model."""

    def __init__(self) -> None:
        self._before: _Stretch | None = None
        self._now: _Stretch | None = None
        self._enough: int | None = None
        self._found_s = 0.0

    @property
    def enough(self) -> int | None:
        """More workers than these have brought no more; None where that is not known."""
        return self._enough

    def tell(self, warm: int, done: int, now_s: float, *, is_full: bool) -> None:
        """So many are warm, and `done` requests were ever done. is_full: some wait that nobody can begin."""
        if self._enough is not None and (
            not is_full or warm < self._enough or now_s - self._found_s > _AGAIN_S
        ):
            self._enough, self._before, self._now = None, None, None
        if not is_full or not warm:
            self._now = None
            return
        now = self._now
        if now is None or now.warm != warm:
            self._remember(now)
            self._now = _Stretch(warm, now_s, 0, done, now_s)
            return
        self._now = now = now._replace(done=done - now.from_done, until_s=now_s)
        before = self._before
        if before is None or before.warm >= warm:
            return
        more = warm / before.warm - 1
        if not (now.proves(more) and before.proves(more)):
            return
        if now.per_s / before.per_s - 1 >= _GAIN * more:
            self._before = None
        elif self._enough is None:
            self._enough, self._found_s = before.warm, now_s

    def _remember(self, ended: _Stretch | None) -> None:
        """The one to compare with: the latest, unless one with fewer workers is not settled yet."""
        if ended is None or not ended.proves(1.0):
            return
        if self._before is None or ended.warm <= self._before.warm:
            self._before = ended
