"""Policies that the simulator compares: ours, and what others do. Pure.

KEDA's rules are those of kedacore/keda (`kafka_scaler.go`, `scale_scaledobjects.go`), the HPA's those of
Kubernetes' documentation of its algorithm and default behaviour.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace.core.arrivals import Arrivals
from headrace.core.calibration import Calibration, Sample
from headrace.core.pacing import Pace
from headrace.core.pauses import Pauses
from headrace.core.planning import Crew, Load, Rules, horizon_s, plan
from headrace.core.simulation import Job, View
from headrace.core.throughput import Throughput


@dataclass
class Ours:
    """The scaler's own decisions, with what it learns on the way.

    cold_start_s, work_s: its guesses before the first.
    """

    rules: Rules
    slots: int
    cold_start_s: float = 30.0
    work_s: float | None = None
    interval_s: float = 5.0
    reacts: bool = True
    foresees: bool = False
    stands: bool = False

    def __post_init__(self) -> None:
        self._arrivals = Arrivals()
        self._pauses = Pauses()
        self._throughput = Throughput()
        self._calibration = Calibration(work_s=self.work_s)
        self._pace = Pace()
        self._before: View | None = None
        self._busy_at_s = 0.0
        self._cold_start_s = self.cold_start_s
        self._arrivals.tell(0, 0.0)

    def workers(self, view: View) -> int:
        """As the scaler decides."""
        self._learn(view)
        self._arrivals.tell(view.arrived, view.now_s)
        if view.waiting or view.running or self._arrivals.last_s == view.now_s:
            self._busy_at_s = view.now_s
            self._pauses.tell(view.now_s)
        is_full = view.waiting > 0 and view.free == 0
        self._throughput.tell(view.warm, view.completed, view.now_s, is_full=is_full)
        window_s = horizon_s(self.rules.dials, self._cold_start_s)
        load = Load(
            waiting=view.waiting,
            running=view.running,
            arriving_per_s=self._arrivals.per_s(view.now_s, window_s),
            idle_s=view.now_s - self._busy_at_s,
            pauses_s=self._pauses.lengths_s,
        )
        crew = Crew(
            warm=view.warm,
            free=view.free,
            starting_s=view.starting_s,
            work_s=self._calibration.work_s,
            cold_start_s=self._cold_start_s,
            enough=self._throughput.enough,
            is_guess=not self._calibration.starts_s,
        )
        self._pace = plan(load, crew, self.rules, self._pace, view.now_s).pace
        return self._pace.target

    def _learn(self, view: View) -> None:
        before, self._before = self._before, view
        if before is None:
            return
        self._calibration = self._calibration.learned(
            Sample(
                view.completed - before.completed,
                view.busy_s - before.busy_s,
                view.held_s - before.held_s,
                self.slots,
                slot_s=view.slot_s - before.slot_s,
            )
        )
        for took_s in view.started_s:
            self._calibration = self._calibration.started(took_s)
            self._cold_start_s = self._calibration.cold_start_s(0.9, self.cold_start_s)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always as many, until nothing more is to come: no other policy pays for the time after that."""

    number: int
    until_s: float = math.inf
    interval_s: float = 60.0
    reacts: bool = False
    foresees: bool = True
    stands: bool = True

    def workers(self, view: View) -> int:
        """The number."""
        is_over = view.now_s >= self.until_s and not view.waiting and not view.running
        return 0 if is_over else self.number


_SYNC_S: Final = 15.0
_TOLERANCE: Final = 0.1
_STABILIZED_S: Final = 300.0


@dataclass
class Keda:
    """KEDA's Kafka scaler, and the HPA that it makes, both with their defaults.

    threshold: records of lag for each replica. polling_s: at none; cooldown_s: from one to none.
    """

    threshold: float = 10.0
    most: int = 10
    polling_s: float = 30.0
    cooldown_s: float = 300.0
    interval_s: float = _SYNC_S
    reacts: bool = False
    foresees: bool = False
    stands: bool = False

    def __post_init__(self) -> None:
        self._replicas = 0
        self._polled_s = -math.inf
        self._active_s = -math.inf
        self._wanted: deque[tuple[float, int]] = deque()

    def workers(self, view: View) -> int:
        """One sync of the HPA, or one poll at none."""
        lag, now_s = view.waiting + view.running, view.now_s
        if now_s - self._polled_s >= self.polling_s:
            self._polled_s = now_s
            if lag > 0:
                self._active_s = now_s
            if self._replicas == 0:
                self._replicas = 1 if lag > 0 else 0
                self._wanted.clear()
                return self._replicas
            if lag == 0 and now_s - self._active_s >= self.cooldown_s:
                self._replicas = 0
                return 0
        if self._replicas:
            self._replicas = self._sync(lag, now_s)
        return self._replicas

    def _sync(self, lag: int, now_s: float) -> int:
        have = self._replicas
        ratio = lag / (self.threshold * have)
        wanted = have if abs(ratio - 1) <= _TOLERANCE else math.ceil(lag / self.threshold)
        wanted = min(max(wanted, 1), self.most)
        self._wanted.append((now_s, wanted))
        while self._wanted[0][0] < now_s - _STABILIZED_S:
            self._wanted.popleft()
        if wanted > have:
            return min(wanted, max(2 * have, have + 4))
        return min(have, max(number for _, number in self._wanted))


_ORACLE_STEP_S: Final = 5.0


@dataclass
class Oracle:
    """Knows all that will come: workers are ready when the work is there, and stay over short gaps only.

    Each request's work is spread over the `drain_target_s` after its arrival, which is the least number of
    workers at every moment that keeps the target. One that would be needed again sooner than a start takes
    stays.
    """

    jobs: Sequence[Job]
    cold_start_s: float
    drain_target_s: float
    most: int
    interval_s: float = _ORACLE_STEP_S
    reacts: bool = False
    foresees: bool = True
    stands: bool = False

    def __post_init__(self) -> None:
        end_s = (self.jobs[-1].at_s if self.jobs else 0.0) + self.drain_target_s + self.cold_start_s
        steps = math.ceil(end_s / _ORACLE_STEP_S) + 2
        spread = max(1, round(self.drain_target_s / _ORACLE_STEP_S))
        work_s = [0.0] * (steps + spread + 1)
        for job in self.jobs:
            work_s[int(job.at_s / _ORACLE_STEP_S)] += job.work_s
        needed, sum_s, left_s = [0] * len(work_s), 0.0, 0.0
        for index, new_s in enumerate(work_s):
            sum_s += new_s - (work_s[index - spread] if index >= spread else 0.0)
            left_s += new_s
            wanted = math.ceil(max(0.0, sum_s) / (spread * _ORACLE_STEP_S) - 1e-9)
            needed[index] = min(self.most, max(wanted, 1 if left_s > 1e-9 else 0))
            left_s = max(0.0, left_s - needed[index] * _ORACLE_STEP_S)
        self._schedule = _kept(needed, math.ceil(self.cold_start_s / _ORACLE_STEP_S))

    def workers(self, view: View) -> int:
        """As the schedule says."""
        index = round(view.now_s / _ORACLE_STEP_S)
        planned = self._schedule[index] if index < len(self._schedule) else 0
        is_idle = not view.waiting and not view.running
        # Until the plan changes, or what is left over is done, nothing does.
        steps = 1
        if planned or is_idle:
            while index + steps < len(self._schedule) and self._schedule[index + steps] == planned:
                steps += 1
        self.interval_s = steps * _ORACLE_STEP_S
        # The plan is of work without its grain: what is left over is done too.
        return max(planned, 0 if is_idle else 1)


def _kept(needed: Sequence[int], start: int) -> list[int]:
    """Workers at each step, so that `needed` are ready: `start` steps earlier, and on over gaps as short."""
    ordered = [0] * len(needed)
    for level in range(1, max(needed, default=0) + 1):
        last = -math.inf
        for index, number in enumerate(needed):
            if number < level:
                continue
            begin = index if last == index - 1 else max(0, index - start)
            if index - last <= start:
                begin = int(last) + 1
            for step in range(begin, index + 1):
                ordered[step] = max(ordered[step], level)
            last = index
    return ordered
