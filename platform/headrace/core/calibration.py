"""What one request costs a worker, and how long a worker takes to start: learned from what workers say. Pure.

A worker that runs several requests at once does not slow down by as much, so that neither the duration of a
request nor the rate of an idle worker says what a full one can do. Each says a limit, though. A worker that
was busy for `busy_s` and finished n requests, each of `slot_s / n`, needs for one of them, when it is full,

    at least  slot_s / (n * capacity)   as if more of them beside it cost nothing
    at most   busy_s / n                as if more of them were never faster

and the two meet when it is full. What is known is kept between them: it follows the lower one, up at once and
down slowly, because a worker that is not full cannot say that a full one is faster. A full one can.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

_MEMORY: Final = 300.0
"""Requests: what was so many ago counts for a third."""
_QUICK: Final = 100.0
_SLOW: Final = 3000.0
"""In so many requests two thirds of a difference are taken over."""
_FULL: Final = 0.9
_STARTS: Final = 20


class Sample(NamedTuple):
    """What a worker has done since it was last heard of."""

    completed: int
    busy_s: float
    slot_s: float
    capacity: int
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a model's workers.

    work_s: seconds of one worker for a request, None before the first. tokens: of a request, in and out.
    starts_s: how long the latest workers took from their start until they were ready, oldest first.
    """

    work_s: float | None = None
    tokens: float = 0.0
    starts_s: tuple[float, ...] = ()
    completed: float = 0.0
    busy_s: float = 0.0
    slots: float = 0.0
    """slot_s over capacity, as `completed` and `busy_s` of late."""

    def learned(self, sample: Sample) -> "Calibration":
        """With a sample more."""
        if sample.busy_s <= 0:
            return self
        kept = math.exp(-sample.completed / _MEMORY)
        completed = self.completed * kept + sample.completed
        busy_s = self.busy_s * kept + sample.busy_s
        slots = self.slots * kept + sample.slot_s / max(1, sample.capacity)
        found = replace(self, completed=completed, busy_s=busy_s, slots=slots)
        if not sample.completed:
            return found
        share = sample.completed / completed
        tokens = self.tokens + (sample.tokens / sample.completed - self.tokens) * share
        most = busy_s / completed
        least = min(most, slots / completed)
        if self.work_s is None:
            return replace(found, work_s=least, tokens=tokens)
        is_sure = least > self.work_s or least >= _FULL * most
        taken = 1 - math.exp(-sample.completed / (_QUICK if is_sure else _SLOW))
        work_s = min(self.work_s + (least - self.work_s) * taken, most)
        return replace(found, work_s=work_s, tokens=tokens)

    def started(self, took_s: float) -> "Calibration":
        """With the start of one more worker."""
        return replace(self, starts_s=(*self.starts_s, took_s)[-_STARTS:])

    def cold_start_s(self, share: float, default_s: float) -> float:
        """How long a start takes at most in `share` (0.5, 0.9) of all cases; `default_s` before the first."""
        return quantile(self.starts_s, share) if self.starts_s else default_s


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
