"""From the number of workers that is needed now to the number that there should be. Pure.

Up at once, but in steps; down only when less was needed for a while, and step by step, or sooner where
experience says that it will be for longer, though those that are not ready yet go at once; to none when
nothing has happened for as long as the model's own pauses say, or, until those are known, for about as long
as a new start would take, which never costs more than twice what would have been best (ski rental).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from headrace.core.lulls import Lulls
from headrace.core.pauses import PRICE, keep_s

_UP_FACTOR: Final = 2
_UP_LEAST: Final = 4
_DOWN_SHARE: Final = 0.25
_WINDOW_S: Final = 60.0
_WINDOW: Final = 0.5
"""Of a cold start: so long, at least, must fewer be enough before one that is warm goes."""
_IDLE_LEAST_S: Final = 60.0
_IDLE_MOST_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class PaceRules:
    """How fast the number of workers may change.

    up_step_s: between two steps up, each of at most as many as there are, or four. down_window_s: so long,
    and at least half a cold start, must less be enough; None: a minute, or less by experience.
    down_step_s: between two steps down, each a quarter.
    idle_s: without anything to do until the last ones go; None: as its pauses say, at most 15 minutes.
    """

    up_step_s: float = 10.0
    down_window_s: float | None = None
    down_step_s: float = 30.0
    idle_s: float | None = None

    @property
    def window_s(self) -> float:
        """How long less must be enough, for as long as experience does not say less."""
        return _WINDOW_S if self.down_window_s is None else self.down_window_s

    def idle_for(self, cold_start_s: float, pauses_s: Sequence[float] = ()) -> float:
        """How long nothing must have happened until the last workers go."""
        if self.idle_s is not None:
            return self.idle_s
        learned_s = keep_s(pauses_s, PRICE * cold_start_s)
        return min(max(cold_start_s, _IDLE_LEAST_S) if learned_s is None else learned_s, _IDLE_MOST_S)


class Need(NamedTuple):
    """What is needed now. is_waiting: some request waits. idle_s: since there was anything to do.

    warm: workers that are ready; the others can be taken back. pauses_s: how long nothing was to do before.
    """

    workers: int
    min_workers: int
    is_waiting: bool
    idle_s: float
    cold_start_s: float
    warm: int
    pauses_s: Sequence[float] = ()


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
    lulls: Lulls = field(default_factory=Lulls)


class Step(NamedTuple):
    """The next number, and why it is not what is needed; empty when it is."""

    pace: Pace
    reason: str = ""


def step(pace: Pace, need: Need, rules: PaceRules, now_s: float) -> Step:
    """The next number of workers."""
    window_s = max(rules.window_s, _WINDOW * need.cold_start_s)
    pace = _until(pace, now_s)
    needs = _remembered(pace.needs, need.workers, window_s, now_s)
    pace = replace(pace, needs=needs, lulls=pace.lulls.told(need.workers, now_s))
    if need.workers > pace.target:
        return _up(pace, need, rules, now_s)
    if need.min_workers == 0 and pace.target > 0 and not need.is_waiting:
        enough_s = rules.idle_for(need.cold_start_s, need.pauses_s)
        if need.idle_s > 0 and need.idle_s >= enough_s:  # 0: something runs, or comes back
            return Step(replace(pace, target=0, needs=()), f"idle for {enough_s:.0f} s")
    return _down(pace, need, rules, now_s)


def _until(pace: Pace, now_s: float) -> Pace:
    """Nothing is still to come: after a clock was set back, what was lately was a moment ago."""
    if max(pace.up_at_s, pace.down_at_s, *(at_s for at_s, _ in pace.needs)) <= now_s:
        return pace
    needs = tuple((min(at_s, now_s), number) for at_s, number in pace.needs)
    return replace(pace, needs=needs, up_at_s=min(pace.up_at_s, now_s), down_at_s=min(pace.down_at_s, now_s))


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
    lately = next(number for at_s, number in pace.needs if at_s >= now_s - rules.window_s)
    kept = max(lately, need.warm, floor)
    if kept < pace.target:
        # They have cost little yet, and nobody waits for them.
        return Step(replace(pace, target=kept), f"{lately} would do; those that are not ready go")
    if rules.down_window_s is None:
        kept = max(pace.lulls.kept(pace.target, need.cold_start_s, now_s), floor)
        if kept < pace.target:
            why = "" if kept == need.workers else f"{need.workers} would do, but hardly for long"
            return Step(replace(pace, target=kept, down_at_s=now_s), why)
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
