"""How many workers the work at hand needs, from its size in seconds of one worker. Pure.

A worker that is warm gives `horizon_s` seconds within the horizon, one that starts gives what is left of it
when it is warm. The number is the smallest whose seconds, at the target utilization, hold what waits and what
will arrive within it. The scaler does not ask it yet: it holds `min_workers`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_COLD_STARTS: Final = 2.0
"""The horizon in cold starts, at least: a worker must have time to pay for its own start."""

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Dials:
    """What its owner chooses. utilization: of a worker's time that is planned with, over 0 and at most 1.

    drain_target_s: a backlog shall be gone in so long, if workers start faster than that.
    """

    min_workers: int = 0
    max_workers: int = 1
    utilization: float = 0.8
    drain_target_s: float = 30.0


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
        # Nearer than a cold start no new worker can help.
        if due.in_s > supply.cold_start_s:
            number = _enough(due.work_s, due.in_s, supply, dials)
            if number > found.workers:
                found = Size(number, f"{due.work_s:.1f} s of work are due in {due.in_s:.0f} s")
    return _clamped(found, dials)


def _for_backlog(demand: Demand, supply: Supply, dials: Dials) -> Size:
    horizon_s = max(dials.drain_target_s, _COLD_STARTS * supply.cold_start_s)
    told = f"{demand.work_s:.1f} s of work and {demand.arriving:.2f} s/s arriving, for {horizon_s:.0f} s"
    number = _enough(demand.work_s + demand.arriving * horizon_s, horizon_s, supply, dials)
    if number > supply.workers and _is_soon_gone(demand, supply, dials):
        start_s = supply.cold_start_s
        return Size(supply.workers, f"{told}: gone before a new worker is warm, in {start_s:.0f} s")
    return Size(number, told)


def _enough(work_s: float, horizon_s: float, supply: Supply, dials: Dials) -> int:
    """The smallest number of workers whose planned seconds within the horizon hold the work."""
    # An error of rounding starts no worker.
    left_s = max(0.0, work_s / dials.utilization - _ROUNDING * horizon_s)
    number = min(supply.warm, math.ceil(left_s / horizon_s))
    left_s -= number * horizon_s
    # Those that are warm first count first.
    for eta_s in sorted(supply.starting_s):
        if left_s <= 0 or eta_s >= horizon_s:
            break
        number += 1
        left_s -= horizon_s - eta_s
    if left_s <= 0:
        return number
    # Those that come too late for this horizon are there all the same: nobody starts others beside them.
    number = supply.workers
    return number + math.ceil(left_s / (horizon_s - supply.cold_start_s))


def _is_soon_gone(demand: Demand, supply: Supply, dials: Dials) -> bool:
    """Whether what is warm is done with the backlog before a new worker would be, and keeps up."""
    pace = dials.utilization * supply.warm
    return demand.arriving < pace and demand.work_s < pace * supply.cold_start_s


def _clamped(found: Size, dials: Dials) -> Size:
    if found.workers < dials.min_workers:
        return Size(dials.min_workers, f"at least {dials.min_workers} ({found.reason})")
    if found.workers > dials.max_workers:
        return Size(
            dials.max_workers, f"at most {dials.max_workers}, {found.workers} were needed ({found.reason})"
        )
    return found
