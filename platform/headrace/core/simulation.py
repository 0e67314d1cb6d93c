"""A model's queue and workers in virtual time, under any policy, of which the scaler's is one. Pure.

A worker has slots; a request has one to itself for as long as it takes there, whatever runs beside it, which
is what a batching engine does at its best. Requests start in the order in which they come.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from headrace.core.calibration import quantile
from headrace.core.occupancy import held_s

_EPSILON_S: Final = 1e-9
_REACTION_S: Final = 1.0


class Job(NamedTuple):
    """A request. work_s: seconds of one full worker."""

    at_s: float
    work_s: float


@dataclass(frozen=True, slots=True)
class Site:
    """Where the workers run. slots: requests at once; cold_start_s: from the order until it serves."""

    slots: int = 16
    cold_start_s: float = 30.0


class View(NamedTuple):
    """What a policy may see. arrived, completed, busy_s, slot_s, held_s: ever since, as workers tell them.

    warm: those that serve, free: slots of theirs. starting_s: ages. Neither counts who drains.
    started_s: of those just ready.
    """

    now_s: float
    waiting: int
    running: int
    arrived: int
    completed: int
    busy_s: float
    slot_s: float
    held_s: float
    warm: int
    free: int
    starting_s: Sequence[float]
    started_s: Sequence[float]


class Policy(Protocol):
    """Decides how many workers there are to be. interval_s: until it is asked again.

    reacts: it is asked within a second of anything that happens, too. foresees: it may want workers before
    anything comes. stands: those that it wants first were there before.
    """

    @property
    def interval_s(self) -> float:
        """Seconds of virtual time."""
        ...

    @property
    def reacts(self) -> bool:
        """See above."""
        ...

    @property
    def foresees(self) -> bool:
        """See above."""
        ...

    @property
    def stands(self) -> bool:
        """See above."""
        ...

    def workers(self, view: View) -> int:
        """The number from now on."""
        ...


class Moment(NamedTuple):
    """The model at one time, for plots."""

    at_s: float
    waiting: int
    running: int
    warm: int
    workers: int


@dataclass(slots=True)
class Outcome:
    """What became of it. gpu_s: of all workers, from the order to the end. waits_s: from arrival to start.

    left_s: so long those have waited that had not begun at the end. lives: of each worker, order and end.
    """

    gpu_s: float = 0.0
    starts: int = 0
    most: int = 0
    waits_s: list[float] = field(default_factory=list)
    left_s: list[float] = field(default_factory=list)
    lives: list[tuple[float, float]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    def wait_s(self, share: float) -> float:
        """So long waits at most `share` of all requests, those that were never served among them."""
        waits_s = self.waits_s + self.left_s
        return quantile(waits_s, share) if waits_s else 0.0


@dataclass(slots=True, eq=False)
class _Worker:
    ordered_s: float
    ready_s: float
    running: int = 0
    drains: bool = False
    busy_since_s: float = 0.0
    is_told: bool = False


def simulate(jobs: Sequence[Job], site: Site, policy: Policy, until_s: float) -> Outcome:
    """Run until `until_s`; jobs in the order of their times."""
    return _Run(jobs, site, policy, until_s).run()


class _Run:
    def __init__(self, jobs: Sequence[Job], site: Site, policy: Policy, until_s: float) -> None:
        self._jobs = jobs
        self._site = site
        self._policy = policy
        self._until_s = until_s
        self._next = 0
        self._ticked_s = -math.inf
        self._queue: deque[Job] = deque()
        self._workers: list[_Worker] = []
        self._starting: deque[_Worker] = deque()
        self._free = 0
        self._ends: list[tuple[float, int, _Worker, float]] = []
        self._serial = 0
        self._completed = 0
        self._busy_s = 0.0
        self._slot_s = 0.0
        self._found = Outcome()

    def run(self) -> Outcome:
        """From tick to tick; a model that has nothing is not ticked until something comes."""
        tick_s = 0.0
        while tick_s <= self._until_s:
            self._pass(tick_s)
            self._decide(tick_s)
            self._ticked_s = tick_s
            if not (self._workers or self._queue or self._policy.foresees) and self._next == len(self._jobs):
                break
            tick_s = self._next_tick_s(tick_s)
        for worker in self._workers:
            self._live(worker, max(self._until_s, worker.ordered_s))
        came_s = (job.at_s for job in (*self._queue, *self._jobs[self._next :]))
        self._found.left_s = [self._until_s - at_s for at_s in came_s if at_s <= self._until_s]
        return self._found

    def _next_tick_s(self, tick_s: float) -> float:
        interval_s = _REACTION_S if self._policy.reacts else self._policy.interval_s
        happens_s = min(self._upcoming_s())
        if happens_s < math.inf:
            happens_s = max(tick_s + interval_s, math.ceil(happens_s / interval_s) * interval_s)
        if self._workers or self._queue or self._policy.foresees:
            return min(tick_s + self._policy.interval_s, happens_s)
        return happens_s

    def _upcoming_s(self) -> tuple[float, float, float]:
        """When the next request comes, the next one ends, the next worker is ready."""
        return (
            self._jobs[self._next].at_s if self._next < len(self._jobs) else math.inf,
            self._ends[0][0] if self._ends else math.inf,
            # All take as long to start: who was ordered first is ready first.
            self._starting[0].ready_s if self._starting else math.inf,
        )

    def _pass(self, until_s: float) -> None:
        """All that happens until then, in its order."""
        while True:
            _, end_s, ready_s = upcoming_s = self._upcoming_s()
            now_s = min(upcoming_s)
            if now_s > until_s:
                return
            if now_s == ready_s:
                while self._starting and self._starting[0].ready_s <= now_s:
                    self._starting.popleft().is_told = True
                    self._free += self._site.slots
            elif now_s == end_s:
                self._end(*heapq.heappop(self._ends))
            else:
                self._queue.append(self._jobs[self._next])
                self._next += 1
            self._begin(now_s)

    def _begin(self, now_s: float) -> None:
        while self._queue and self._free:
            worker = min((w for w in self._workers if w.is_told and not w.drains), key=_running)
            job = self._queue.popleft()
            self._free -= 1
            self._found.waits_s.append(now_s - job.at_s)
            if worker.running == 0:
                worker.busy_since_s = now_s
            worker.running += 1
            takes_s = job.work_s * self._site.slots
            self._serial += 1
            heapq.heappush(self._ends, (now_s + takes_s, self._serial, worker, takes_s))

    def _end(self, now_s: float, _: int, worker: _Worker, took_s: float) -> None:
        worker.running -= 1
        self._free += not worker.drains
        self._completed += 1
        self._slot_s += took_s
        if worker.running == 0:
            self._busy_s += now_s - worker.busy_since_s
            if worker.drains:
                self._remove(worker, now_s)

    def _remove(self, worker: _Worker, now_s: float) -> None:
        self._workers.remove(worker)
        self._live(worker, now_s)

    def _live(self, worker: _Worker, end_s: float) -> None:
        self._found.gpu_s += end_s - worker.ordered_s
        self._found.lives.append((worker.ordered_s, end_s))

    def _view(self, now_s: float) -> View:
        busy_s, warm = self._busy_s, 0
        started_s: list[float] = []
        for worker in self._workers:
            if worker.running:
                busy_s += now_s - worker.busy_since_s
            if worker.is_told and not worker.drains:
                warm += 1
                if worker.ready_s > self._ticked_s + _EPSILON_S:
                    started_s.append(worker.ready_s - worker.ordered_s)
        ages_s = (now_s - end_s + takes_s for end_s, _, _, takes_s in self._ends)
        return View(
            now_s,
            waiting=len(self._queue),
            running=len(self._ends),
            arrived=self._next,
            completed=self._completed,
            busy_s=busy_s,
            slot_s=self._slot_s,
            held_s=held_s(self._slot_s, self._completed, ages_s),
            warm=warm,
            free=self._free,
            starting_s=[now_s - worker.ordered_s for worker in self._starting],
            started_s=started_s,
        )

    def _decide(self, now_s: float) -> None:
        view = self._view(now_s)
        target = self._policy.workers(view)
        have = view.warm + len(view.starting_s)
        is_there = self._policy.stands and self._ticked_s < 0
        takes_s = 0.0 if is_there else self._site.cold_start_s
        for _ in range(target - have):
            worker = _Worker(now_s, now_s + takes_s)
            self._workers.append(worker)
            self._starting.append(worker)
            self._found.starts += 1
        if target < have:
            self._stop(have - target, now_s)
        moment = Moment(now_s, view.waiting, view.running, view.warm, len(self._workers))
        self._found.most = max(self._found.most, moment.workers)
        self._found.moments.append(moment)

    def _stop(self, number: int, now_s: float) -> None:
        """As `core.scaling` chooses: those not ready, those with least to finish, the newest."""
        kept = [worker for worker in self._workers if not worker.drains]
        kept.sort(key=lambda each: (each.is_told, each.running, -each.ordered_s))
        for worker in kept[:number]:
            worker.drains = True
            if worker.is_told:
                self._free -= self._site.slots - worker.running
            else:
                self._starting.remove(worker)
            if worker.running == 0:
                self._remove(worker, now_s)


def _running(worker: _Worker) -> int:
    return worker.running
