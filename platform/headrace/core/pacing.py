"""From the number of workers that is needed now to the number that there should be. Pure.

Up at once, but in steps; down only when less was needed for a while, and step by step; to none when nothing
has happened for about as long as a new start would take, which never costs more than twice what would have
been best (ski rental).
"""

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

_UP_FACTOR: Final = 2
_UP_LEAST: Final = 4
_DOWN_SHARE: Final = 0.25
_IDLE_LIMITS_S: Final = (60.0, 900.0)


@dataclass(frozen=True, slots=True)
class PaceRules:
    """How fast the number of workers may change.

    up_step_s: between two steps up, each of at most as many as there are, or four. down_window_s: so long,
    and at least a cold start, must less be enough. down_step_s: between two steps down, each a quarter.
    idle_s: without anything to do until the last ones go; None: a cold start, from one to 15 minutes.
    """

    up_step_s: float = 10.0
    down_window_s: float = 120.0
    down_step_s: float = 60.0
    idle_s: float | None = None

    def idle_for(self, cold_start_s: float) -> float:
        """How long nothing must have happened until the last workers go."""
        if self.idle_s is not None:
            return self.idle_s
        least_s, most_s = _IDLE_LIMITS_S
        return min(max(cold_start_s, least_s), most_s)


class Need(NamedTuple):
    """What is needed now. is_waiting: some request waits. idle_s: since there was anything to do."""

    workers: int
    min_workers: int
    is_waiting: bool
    idle_s: float
    cold_start_s: float


@dataclass(frozen=True, slots=True)
class Pace:
    """Where a model stands. `needs`: times and numbers, each number lower than the one before it.

    up_at_s: when the latest step up began, and up_from: from how many.
    """

    target: int = 0
    needs: tuple[tuple[float, int], ...] = ()
    up_at_s: float = -math.inf
    up_from: int = 0
    down_at_s: float = -math.inf


class Step(NamedTuple):
    """The next number, and why it is not what is needed; empty when it is."""

    pace: Pace
    reason: str = ""


def step(pace: Pace, need: Need, rules: PaceRules, now_s: float) -> Step:
    """The next number of workers."""
    window_s = max(rules.down_window_s, need.cold_start_s)
    pace = replace(pace, needs=_remembered(pace.needs, need.workers, window_s, now_s))
    if need.workers > pace.target:
        return _up(pace, need, rules, now_s)
    if need.min_workers == 0 and pace.target > 0 and not need.is_waiting:
        enough_s = rules.idle_for(need.cold_start_s)
        if need.idle_s >= enough_s:
            return Step(replace(pace, target=0, needs=()), f"idle for {enough_s:.0f} s")
    return _down(pace, need, rules, now_s)


def _up(pace: Pace, need: Need, rules: PaceRules, now_s: float) -> Step:
    if pace.target == 0 and need.min_workers == 0 and not need.is_waiting:
        return Step(pace, "nothing waits")
    if now_s - pace.up_at_s >= rules.up_step_s:
        pace = replace(pace, up_at_s=now_s, up_from=pace.target)
    # Where there was nothing, nothing is known against as many as are needed.
    most = max(pace.up_from * _UP_FACTOR, pace.up_from + _UP_LEAST) if pace.up_from else need.workers
    target = max(pace.target, need.min_workers, min(need.workers, most))
    why = "" if target >= need.workers else f"{need.workers} are needed, in steps"
    return Step(replace(pace, target=target), why)


def _down(pace: Pace, need: Need, rules: PaceRules, now_s: float) -> Step:
    # The last one goes by idleness only.
    floor = max(need.min_workers, min(1, pace.target))
    lowest = max(pace.needs[0][1], floor)
    if lowest >= pace.target:
        why = "" if need.workers == pace.target else f"{need.workers} would do now, but not all the time"
        return Step(pace, why)
    if now_s - max(pace.down_at_s, pace.up_at_s) < rules.down_step_s:
        return Step(pace, f"{lowest} would do; the next step down is due")
    target = max(lowest, pace.target - max(1, math.floor(pace.target * _DOWN_SHARE)))
    why = "" if target == need.workers else f"{lowest} would do, in steps"
    return Step(replace(pace, target=target, down_at_s=now_s), why)


def _remembered(
    needs: tuple[tuple[float, int], ...], workers: int, window_s: float, now_s: float
) -> tuple[tuple[float, int], ...]:
    """Needs that may still be the highest of the window, each with when it was last there."""
    kept = [each for each in needs if each[1] > workers]
    kept.append((now_s, workers))
    while kept[0][0] < now_s - window_s:
        del kept[0]
    return tuple(kept)
