"""What one request costs a worker, and how long a worker takes to start: learned from what workers say. Pure.

A worker that runs several requests at once does not slow down by as much, so that neither the duration of a
request nor the rate of an idle worker says what a full one can do. Each says a limit, though. A worker that
was busy for `busy_s` and finished n requests, all in `held_s` of slots, needs for one, when it is full,

    at least  held_s / (n * capacity)   as if more of them beside it cost nothing
    at most   busy_s / n                as if more of them were never faster

and the two meet when it is full. What is known is kept between them: it follows the lower one, up at once and
down slowly, because a worker that is not full cannot say that a full one is faster. A full one can. Few
requests prove little: of those that began together the shortest end first.

That is the mean of what has run. A request that waits is measured beside it: by the bytes of its body, for
which so many tokens are read, by the tokens that are written on the average, and by what each of them costs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from headrace.core.costs import Costs, Spent

_MEMORY: Final = 300.0
"""Requests: what was so many ago counts for a third."""
_QUICK: Final = 100.0
_SLOW: Final = 3000.0
"""In so many requests two thirds of a difference are taken over."""
_FULL: Final = 0.9
_STARTS: Final = 20
_CHANCE: Final = 2.0
"""Standard errors of a mean whose values vary by as much as it: what so many requests leave to chance."""


class Sample(NamedTuple):
    """What a worker has done since it was last heard of. body_bytes, slot_s: of the completed requests.

    held_s: as `core.occupancy.held_s`, what it has grown by.
    """

    completed: int
    busy_s: float
    held_s: float
    capacity: int
    tokens_in: int = 0
    tokens_out: int = 0
    body_bytes: int = 0
    slot_s: float = 0.0


class Mean(NamedTuple):
    """A request's tokens and bytes, on the average."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0
    body_bytes: float = 0.0

    def towards(self, sample: Sample, share: float) -> "Mean":
        """With a sample more, which counts for `share` of it all."""
        values = (sample.tokens_in, sample.tokens_out, sample.body_bytes)
        return Mean(
            *(old + (new / sample.completed - old) * share for old, new in zip(self, values, strict=True))
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a model's workers.

    work_s: seconds of one worker for a request, None before the first. mean: of a request.
    starts_s: how long the latest workers took from their start until they were ready, oldest first.
    """

    work_s: float | None = None
    mean: Mean = field(default_factory=Mean)
    starts_s: tuple[float, ...] = ()
    completed: float = 0.0
    busy_s: float = 0.0
    slots: float = 0.0
    """held_s over capacity, as `completed` and `busy_s` of late."""
    costs: Costs = field(default_factory=Costs)
    is_counted: bool = False
    """Whether nobody has guessed: then a mean is all that there is to know, as long as few have ended."""

    @property
    def tokens(self) -> float:
        """Of a request, in and out."""
        return self.mean.tokens_in + self.mean.tokens_out

    def guess(self) -> "Calibration":
        """As the first guess for other workers: their first words count for more than all of it."""
        costs = Costs(self.costs.cost)
        return replace(self, completed=0.0, busy_s=0.0, slots=0.0, costs=costs, is_counted=False)

    def expected(self, body_bytes: int, max_tokens: int | None = None) -> tuple[float, float]:
        """How large a request with such a body is beside the mean of all, and its tokens."""
        mean = self.mean
        tokens_in = mean.tokens_in * (body_bytes / mean.body_bytes if mean.body_bytes else 1.0)
        tokens_out = mean.tokens_out if max_tokens is None else min(mean.tokens_out, max_tokens)
        usual = self.costs.cost.of(mean.tokens_in, mean.tokens_out)
        size = self.costs.cost.of(tokens_in, tokens_out) / usual if self.tokens and usual else 1.0
        return size, tokens_in + tokens_out

    def learned(self, sample: Sample) -> "Calibration":
        """With a sample more."""
        if sample.busy_s <= 0:
            return self
        kept = math.exp(-sample.completed / _MEMORY)
        completed = self.completed * kept + sample.completed
        busy_s = self.busy_s * kept + sample.busy_s
        slots = self.slots * kept + sample.held_s / max(1, sample.capacity)
        # What is held falls when the mean of the ended rises, but those that have ended took their time.
        slots = max(slots, sample.slot_s / max(1, sample.capacity))
        found = replace(self, completed=completed, busy_s=busy_s, slots=slots)
        if not sample.completed:
            return found
        share = sample.completed / completed
        mean = self.mean.towards(sample, share)
        spent = Spent(sample.completed, sample.tokens_in, sample.tokens_out, sample.slot_s)
        found = replace(found, mean=mean, costs=self.costs.learned(spent))
        most = busy_s / completed
        least = min(most, slots / completed)
        if self.work_s is None or (self.is_counted and completed < _QUICK):
            return replace(found, work_s=least, is_counted=True)
        is_sure = least > self.work_s or least >= _FULL * most
        taken = 1 - math.exp(-sample.completed / (_QUICK if is_sure else _SLOW))
        work_s = self.work_s + (least - self.work_s) * taken
        return replace(found, work_s=min(work_s, most * (1 + _CHANCE / math.sqrt(completed))))

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
