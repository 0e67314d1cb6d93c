"""Whether a worker is well: when its next canary is due, and when it has failed too many. Pure.

An answer to a caller says as much as a canary, so that a busy worker needs none. An error on a caller's
request says little, because the request may be to blame: it is a reason to look. Only canaries decide.
"""

import math
from typing import Final

_HASTE_S: Final = 1.0
"""Between two canaries of a worker that may not be well."""


class Wellness:
    """Of one worker. every_s: from a sign of health to the next canary. failures: so many in a row end it."""

    def __init__(self, every_s: float, failures: int, now_s: float) -> None:
        self._every_s = every_s
        self._failures = failures
        self._well_s = now_s
        self._looked_s = -math.inf
        self._failed = 0
        self._is_doubted = False

    def answered(self, now_s: float) -> None:
        """A caller's request has an answer."""
        if not self._failed and not self._is_doubted:
            self._well_s = now_s

    def doubted(self) -> None:
        """The engine has failed on a caller's request."""
        self._is_doubted = True

    def passed(self, now_s: float) -> None:
        """A canary was answered."""
        self._well_s = self._looked_s = now_s
        self._failed, self._is_doubted = 0, False

    def failed(self, now_s: float) -> None:
        """A canary was not, or wrongly."""
        self._looked_s = now_s
        self._failed += 1

    @property
    def is_lost(self) -> bool:
        """Whether it has failed too many in a row."""
        return self._failed >= self._failures

    def due_in_s(self, now_s: float) -> float:
        """Until the next canary."""
        if self._failed or self._is_doubted:
            return max(0.0, self._looked_s + _HASTE_S - now_s)
        return max(0.0, self._well_s + self._every_s - now_s)
