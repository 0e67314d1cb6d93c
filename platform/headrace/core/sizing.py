"""How many workers the work at hand needs, from its size in seconds of one worker. Pure.

A worker that is warm gives `horizon_s` seconds within the horizon, one that starts gives what is left of it
when it is warm. The number is the smallest whose seconds, at the target utilization, hold what waits and what
will arrive within it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_PAYS: Final = 1 / 3
"""A start pays when the worker then has work for so much of the time that it took."""

_ROUNDING: Final = 1e-9

_MOST: Final = 1e9
"""Workers: more than anybody has, and a number that can be counted with."""

_SOONEST_S: Final = 1e-3
"""Whatever is due sooner is late, by any number of workers."""


@dataclass(frozen=True, slots=True)
class Dials:
    """What its owner chooses. utilization: of a worker's time that is planned with, over 0 and at most 1.

    drain_target_s: a backlog shall be gone in so long; if workers take longer to start, so long after that.
    """

    min_workers: int = 0
    max_workers: int = 1
    utilization: float = 0.8
    drain_target_s: float = 30.0

    def horizon_s(self, cold_start_s: float) -> float:
        """How far is planned ahead: the drain target, or a start and the time that it must pay for.

        That is the drain target again, at least a third of the start and at most as long as the start.
        """
        works_s = min(max(self.drain_target_s, _PAYS * cold_start_s), cold_start_s)
        return max(self.drain_target_s, cold_start_s + works_s)


class Due(NamedTuple):
    """Work that must be done in so many seconds."""

    in_s: float
    work_s: float


class Demand(NamedTuple):
    """Work in seconds of one warm worker.

    work_s: what waits. arriving: seconds of work that come in a second.
    due: deadlines, each with all the work that must be done by then.
    """

    work_s: float
    arriving: float = 0.0
    due: Sequence[Due] = ()


class Supply(NamedTuple):
    """Workers that are there. starting_s: in how long each of those that start will be warm.

    cold_start_s: how long a new one takes, nine times in ten.
    """

    warm: int
    starting_s: Sequence[float] = ()
    cold_start_s: float = 0.0

    @property
    def workers(self) -> int:
        """Warm ones, and those that start."""
        return self.warm + len(self.starting_s)


class Size(NamedTuple):
    """The number of workers, and why, in words."""

    workers: int
    reason: str


def size(demand: Demand, supply: Supply, dials: Dials) -> Size:
    """The number that `demand` needs, between the dials' limits."""
    found = _for_backlog(demand, supply, dials)
    for due in demand.due:
        number = _enough(due.work_s, due.in_s, supply, dials) if due.in_s > _SOONEST_S else 0
        if number > found.workers:
            found = Size(number, f"{due.work_s:.1f} s of work are due in {due.in_s:.0f} s")
    return _clamped(found, dials)


def _for_backlog(demand: Demand, supply: Supply, dials: Dials) -> Size:
    ahead_s = dials.horizon_s(supply.cold_start_s)
    told = f"{demand.work_s:.1f} s of work and {demand.arriving:.2f} s/s arriving, for {ahead_s:.0f} s"
    number = _enough(demand.work_s + demand.arriving * ahead_s, ahead_s, supply, dials)
    if number < supply.workers and supply.starting_s:
        # Those that start were ordered to be done by a time that does not recede while they come nearer.
        left_s = ahead_s - supply.cold_start_s + min(supply.starting_s)
        needed = _enough(demand.work_s + demand.arriving * left_s, left_s, supply, dials)
        number = max(number, min(needed, supply.workers))
    return Size(number, told)


def _enough(work_s: float, within_s: float, supply: Supply, dials: Dials) -> int:
    """The smallest number of workers whose planned seconds within the horizon hold the work."""
    # An error of rounding starts no worker.
    left_s = max(0.0, work_s / dials.utilization - _ROUNDING * within_s)
    number = min(supply.warm, _ceil(left_s / within_s))
    left_s -= number * within_s
    # Those that are warm first count first.
    for eta_s in sorted(supply.starting_s):
        if left_s <= 0 or eta_s >= within_s:
            break
        number += 1
        left_s -= within_s - eta_s
    if left_s <= 0:
        return number
    # Those that come too late for this horizon are there all the same: nobody starts others beside them.
    number = supply.workers
    if within_s <= supply.cold_start_s:
        return number  # no new one can help
    return number + _ceil(left_s / (within_s - supply.cold_start_s))


def _ceil(workers: float) -> int:
    """What a manifest says of one model, however absurd, must not keep the others from having theirs."""
    return math.ceil(min(workers, _MOST))


def _clamped(found: Size, dials: Dials) -> Size:
    if found.workers < dials.min_workers:
        return Size(dials.min_workers, f"at least {dials.min_workers} ({found.reason})")
    if found.workers > dials.max_workers:
        return Size(
            dials.max_workers, f"at most {dials.max_workers}, {found.workers} were needed ({found.reason})"
        )
    return found
