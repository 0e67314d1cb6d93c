"""What the scaler knows of one model: what there is to do, what that costs, where it stands. No IO."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from headrace.contracts.decisions import Learned
from headrace.contracts.events import ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.topics import Lane
from headrace.core.arrivals import Arrivals
from headrace.core.calibration import Calibration, Mean, Sample
from headrace.core.conservation import Account
from headrace.core.costs import Cost, Costs
from headrace.core.experience import Experience
from headrace.core.glimpse import Glimpse, Seen, glimpse
from headrace.core.lulls import Lulls
from headrace.core.pacing import Pace, PaceRules
from headrace.core.pauses import Pauses
from headrace.core.planning import Crew, Load, Plan, Rules, Share, horizon_s, plan
from headrace.core.scaling import Failures, Phase, Worker
from headrace.core.sizing import Dials
from headrace.core.throughput import Throughput
from headrace.core.turns import Turn
from headrace.settings import ScalerSettings

_RETIRED_S: Final = 3.0
"""A model that is to go has had nothing to do for so long."""

_VERSIONS: Final = 8
"""Of so many that were deployed before, what their requests cost is known again when they come back."""

SERVING: Final = (WorkerState.READY, WorkerState.DRAINING)

_FRESH_S: Final = 10.0
"""What was seen of waiting requests stands for those that wait for so long."""


class Depth(NamedTuple):
    """A model's topics: requests without a fate, and how many there ever were.

    lag: records behind the commits. lagging: partitions with something to do, all lanes of a number as one.
    """

    backlog: int
    total: int
    lag: int = 0
    lagging: int = 0


class Grant(NamedTuple):
    """As many workers as a model may have of what all share, and why no more."""

    workers: int
    reason: str


def depths(parts: Iterable[tuple[str, int, int, int, int]]) -> dict[str, Depth]:
    """Of each model, by slug; from its partitions' slug, number, backlog, lag and end."""
    found: dict[str, list[int]] = {}
    lagging: dict[str, set[int]] = {}
    for slug, partition, backlog, lag, end in parts:
        sums = found.get(slug)
        if sums is None:
            sums = found[slug] = [0, 0, 0]
        sums[1] += end
        if lag:
            sums[0] += backlog
            sums[2] += lag
        if backlog:
            lagging.setdefault(slug, set()).add(partition)
    return {
        slug: Depth(backlog, total, lag, len(lagging.get(slug, ())))
        for slug, (backlog, total, lag) in found.items()
    }


@dataclass(slots=True)
class Known:
    """One model.

    depth: None until it was read. read_s: when that was. unread: why it cannot be read now.
    busy_at_s: when there was last anything to do.
    returns_s: when requests come back for another attempt (Unix times, rising).
    told: requests that workers have ever said to be done with. silent: those run by workers heard no more.
    is_tried: whether its version takes over from one that was well, and has not shown yet that it is.
    grant: None where it may have what it is to have. notes: why units of it cannot start, each.
    """

    deployed: ModelDeployed
    settings: ScalerSettings
    arrivals: Arrivals = field(default_factory=Arrivals)
    pauses: Pauses = field(default_factory=Pauses)
    throughput: Throughput = field(default_factory=Throughput)
    calibration: Calibration = field(default_factory=Calibration)
    pace: Pace = field(default_factory=Pace)
    depth: Depth | None = None
    read_s: float | None = None
    unread: str = ""
    returns_s: Sequence[float] = ()
    told: int = 0
    silent: int = 0
    account: Account = field(default_factory=Account)
    is_served: bool = False
    is_tried: bool = False
    glimpse: Glimpse | None = None
    busy_at_s: float = 0.0
    load: Load = field(default_factory=Load)
    crew: Crew = field(default_factory=Crew)
    plan: Plan | None = None
    grant: Grant | None = None
    failures: Failures = field(default_factory=Failures)
    notes: Sequence[str] = ()
    turn: Turn = field(default_factory=Turn)
    _before: dict[tuple[str, str], Calibration] = field(default_factory=dict)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the most workers.

        One that is to go works off what it has, and needs none after that. A version that is tried has one
        worker before it has work, so that whoever deployed it soon knows.
        """
        scaling = self.deployed.manifest.scaling
        if self.deployed.retiring:
            return 0, max(1, scaling.max_workers)
        least = min(1, scaling.max_workers) if self.is_tried else 0
        return max(scaling.min_workers, least), scaling.max_workers

    def share(self, now_s: float) -> Share:
        """What it may have of what all share.

        Who is only tried, or kept for what may come, takes nothing from those with work; but between two
        requests nobody is stopped who would have to start again for the next.
        """
        least = min(self.limits[0], self.deployed.manifest.scaling.min_workers)
        is_idle = not self.load.waiting and not self.load.running and not self.unread
        has_some = self.turn.has_some
        can_wait = is_idle and ((self.is_tried and not has_some) or self.load.idle_s >= self.cold_start_s)
        turn_s = self.turn.at_s(self.cold_start_s, now_s)
        if can_wait and not has_some and not self.is_tried:
            turn_s = math.inf  # nobody who is there goes for one that would have nothing to do
        return Share(least, self.target, self.gpus, can_wait, turn_s, has_some)

    @property
    def rules(self) -> Rules:
        """How it is scaled: by its manifest, and by the scaler's own pace."""
        scaling, settings = self.deployed.manifest.scaling, self.settings
        idle_s = _RETIRED_S if self.deployed.retiring else scaling.idle_s
        return Rules(
            Dials(*self.limits, scaling.utilization, scaling.drain_target_s),
            PaceRules(settings.up_step_s, settings.down_window_s, settings.down_step_s, idle_s),
            self.deployed.partitions,
        )

    @property
    def is_fixed(self) -> bool:
        """Whether no load changes its number of workers."""
        least, most = self.limits
        return least == most

    @property
    def cold_start_s(self) -> float:
        """How long a start takes nine times in ten."""
        return self.calibration.cold_start_s(0.9, self.settings.cold_start_s)

    @property
    def work_s(self) -> float | None:
        """Seconds of one full worker for a request; what the manifest says until it was measured."""
        measured = self.calibration.work_s
        return self.deployed.manifest.scaling.work_s if measured is None else measured

    @property
    def waiting_work_s(self) -> float | None:
        """The same for a request such as those that wait now."""
        work_s = self.work_s
        return None if work_s is None else work_s * (self.glimpse.size if self.glimpse else 1.0)

    @property
    def backlog_s(self) -> float | None:
        """All that waits, in seconds of one worker, or, where workers have GPUs, of a GPU."""
        work_s = self.waiting_work_s
        return None if work_s is None else self.load.waiting * work_s * max(1, self.gpus)

    @property
    def backlog_tokens(self) -> float:
        """Of all that waits, in and out."""
        return self.load.waiting * (self.glimpse.tokens if self.glimpse else self.calibration.tokens)

    def oldest_s(self, now_s: float) -> float | None:
        """For how long the oldest request has waited, as far as that was seen."""
        seen = self.glimpse
        return None if seen is None or seen.oldest_s is None else round(max(0.0, now_s - seen.oldest_s), 1)

    def unseen_s(self, began_s: float, now_s: float) -> float:
        """Since it was read, or could have been for the first time. began_s: when we did."""
        first_s = max(began_s, self.deployed.deployed_at_s)
        return max(0.0, now_s - (first_s if self.read_s is None else self.read_s))

    @property
    def unaccounted(self) -> int:
        """Requests that the commits and the workers' own counts do not agree about."""
        backlog = self.depth.backlog if self.depth else 0
        return abs(self.account.error) + min(self.silent, backlog)

    @property
    def target(self) -> int:
        """How many workers there are to be."""
        least, most = self.limits
        return min(max(self.pace.target, least), most)

    @property
    def allowed(self) -> int:
        """How many of them there may be beside other models."""
        return self.target if self.grant is None else min(self.target, self.grant.workers)

    @property
    def reason(self) -> str:
        """Why so many."""
        found = "" if self.plan is None else self.plan.reason
        partitions = self.deployed.partitions
        if self.plan is not None and partitions < self.limits[1] and self.plan.needed >= partitions:
            found = f"more than {partitions} workers would have no partition ({found})"
        if self.is_tried:
            found = _beside(f"version {self.deployed.version} is tried", found)
        if self.grant is not None:
            found = _beside(self.grant.reason, found)
        if self.notes:
            found = _beside(f"{len(self.notes)} cannot start: {self.notes[0]}", found)
        if self.failures.count:
            number = self.failures.count
            what = "a worker has" if number == 1 else f"{number} workers in a row have"
            found = _beside(f"{what} failed, at last: {self.failures.reason}", found)
        if self.unread:
            found = _beside(f"cannot be read, so nothing changes: {self.unread}", found)
        return found

    @property
    def gpus(self) -> int:
        """Of one worker."""
        return self.deployed.manifest.scaling.gpus

    def is_done(self, now_s: float) -> bool:
        """Whether it is to go, and nothing is left of it to do."""
        if not self.deployed.is_leaving or self.depth is None or self.depth.backlog or self.target:
            return False
        if self.unread:
            return False  # something may have come
        # Gateways hear of it by then; before that, one may still take a request.
        return now_s - max(self.busy_at_s, self.deployed.deployed_at_s) > _RETIRED_S

    def deploy(self, deployed: ModelDeployed) -> None:
        """Another version of it. What the one before it cost is the first guess."""
        if deployed.version != self.deployed.version:
            self._before[_build(self.deployed)] = self.calibration
            for oldest in list(self._before)[:-_VERSIONS]:
                del self._before[oldest]
            is_same = deployed.manifest.engine.kind == self.deployed.manifest.engine.kind
            guess = self.calibration.guess() if is_same else Calibration()
            self.calibration = self._before.pop(_build(deployed), guess)
        self.deployed = deployed

    @property
    def experience(self) -> Experience:
        """What its pauses, spells and lulls have taught."""
        return Experience(self.pauses.lengths_s, self.arrivals.spells_s, self.pace.lulls.lengths_s)

    def remember(self, learned: Learned) -> None:
        """What another scaler has learned, which knows better as long as we have not looked ourselves."""
        if self.depth is not None:
            return
        self._resume(Experience(learned.pauses_s, learned.spells_s, learned.lulls_s))
        if self.calibration.busy_s:
            return  # workers have told us themselves
        costs = Costs() if learned.cost is None else Costs(Cost(*learned.cost))
        self.calibration = Calibration(learned.work_s, Mean(*learned.mean), learned.starts_s, costs=costs)

    def _resume(self, experience: Experience) -> None:
        """With what is known, and nothing going on."""
        self.pauses, self.arrivals = Pauses(experience.pauses_s), Arrivals(experience.spells_s)
        self.pace = replace(self.pace, lulls=Lulls.after(experience.lulls_s))

    def hear(self, before: WorkerHeartbeat, now: WorkerHeartbeat) -> None:
        """What a worker of this version did between two heartbeats."""
        if now.version != self.deployed.version or now.state not in SERVING:
            return
        self.calibration = self.calibration.learned(
            Sample(
                now.completed - before.completed,
                now.busy_s - before.busy_s,
                now.held_s - before.held_s,
                now.capacity,
                now.tokens - now.tokens_out - before.tokens + before.tokens_out,
                now.tokens_out - before.tokens_out,
                now.body_bytes - before.body_bytes,
                now.slot_s - before.slot_s,
            )
        )

    def started(self, took_s: float) -> None:
        """A worker has become ready."""
        self.calibration = self.calibration.started(took_s)

    def look(self, few: Sequence[Seen], waiting: Mapping[Lane, int], now_s: float) -> None:
        """What some of the waiting requests say, and how many wait in each lane."""

        def measure(seen: Seen) -> tuple[float, float]:
            return self.calibration.expected(seen.body_bytes, seen.max_tokens)

        self.glimpse = glimpse(few, waiting, measure, now_s) if few else None

    def returning(self, now_s: float) -> int:
        """Requests that come back before another worker could have been started for them.

        For the others it is cheaper to let the last worker go, and to start one when they wait.
        """
        return bisect_right(self.returns_s, now_s + self.cold_start_s)

    def measure(self, depth: Depth, now_s: float, *, is_served: bool = True) -> None:
        """What lies in its topics now. is_served: some worker of it is heard, and has begun to serve."""
        if self.depth is None:
            # Another may have acted until now: what came meanwhile came nobody knows when.
            if not self.busy_at_s or depth.total != self.arrivals.total:
                self.busy_at_s = now_s
            self._resume(self.experience)
        self.busy_at_s = min(self.busy_at_s, now_s)  # a clock may be set back
        self.depth, self.read_s = depth, now_s
        self.arrivals.tell(depth.total, now_s)
        # What is seen at the first look since a worker serves may have ended just before.
        is_watched = is_served and self.is_served
        self.is_served = is_served
        self.account.tell(depth.total - depth.backlog, self.told, now_s, is_watched=is_watched)
        if depth.backlog or self.returning(now_s) or self.arrivals.last_s == now_s:
            self.busy_at_s = now_s
            self.pauses.tell(now_s)

    def keep(self, workers: Sequence[Worker], now_s: float) -> None:
        """What was decided stands; before the first decision as many as there are are needed.

        Whoever scaled before us had its reasons, and whose workers there are has its turn.
        """
        if self.plan is None:
            staying = sum(worker.phase is not Phase.DRAINING for worker in workers)
            self.pace = replace(self.pace, target=staying, needs=((now_s, staying),))
            self.turn = Turn().told(staying, staying, now_s)

    def decide(self, workers: Sequence[Worker], free: int, now_s: float) -> Plan:
        """How many workers there are to be now. workers: its own that have not ended."""
        rules = self.rules
        running = sum(worker.running for worker in workers)
        backlog = self.depth.backlog if self.depth else 0
        if self.glimpse is not None and (not backlog or now_s - self.glimpse.at_s > _FRESH_S):
            self.glimpse = None
        waiting = max(0, backlog - running)
        work_s = self.waiting_work_s
        self.load = Load(
            waiting=waiting,
            running=min(running, backlog),
            retrying=self.returning(now_s),
            arriving_per_s=self.arrivals.per_s(now_s, horizon_s(rules.dials, self.cold_start_s)),
            idle_s=now_s - self.busy_at_s,
            due=self.glimpse.due(waiting * work_s, now_s) if self.glimpse and work_s else (),
            pauses_s=self.pauses.lengths_s,
        )
        starting = [worker for worker in workers if worker.phase is Phase.STARTING]
        warm = sum(worker.phase is Phase.READY for worker in workers)
        self.throughput.tell(warm, self.told, now_s, is_full=waiting > 0 and free == 0)
        self.crew = Crew(
            warm=warm,
            free=free,
            starting_s=[now_s - worker.started_at_s for worker in starting],
            work_s=work_s,
            cold_start_s=self.cold_start_s,
            enough=self.throughput.enough,
            is_guess=not self.calibration.starts_s,
        )
        self.keep(workers, now_s)
        self.plan = plan(self.load, self.crew, rules, self.pace, now_s)
        self.pace = self.plan.pace
        return self.plan


def _beside(reason: str, others: str) -> str:
    return f"{reason} ({others})" if others else reason


def _build(deployed: ModelDeployed) -> tuple[str, str]:
    """What costs were measured of."""
    return deployed.manifest.engine.kind, deployed.version
