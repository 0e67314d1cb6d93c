"""What the scaler knows of one model: what there is to do, what that costs, where it stands. No IO."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from headrace.contracts.decisions import Learned
from headrace.contracts.events import ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.core.arrivals import Arrivals
from headrace.core.calibration import Calibration, Sample
from headrace.core.pacing import Pace, PaceRules
from headrace.core.planning import Crew, Load, Plan, Rules, horizon_s, plan
from headrace.core.scaling import Failures, Phase, Worker
from headrace.core.sizing import Dials
from headrace.settings import ScalerSettings

_RETIRED_S: Final = 3.0
"""A model that is to go has had nothing to do for so long."""

_SERVING = (WorkerState.READY, WorkerState.DRAINING)


class Depth(NamedTuple):
    """A model's topics: requests without a fate, and how many there ever were."""

    backlog: int
    total: int


def depths(parts: Iterable[tuple[str, int, int]]) -> dict[str, Depth]:
    """Of each model, by slug; from its partitions' slug, backlog and end."""
    found: dict[str, list[int]] = {}
    for slug, backlog, end in parts:
        sums = found.setdefault(slug, [0, 0])
        sums[0] += backlog
        sums[1] += end
    return {slug: Depth(*sums) for slug, sums in found.items()}


def limits(deployed: ModelDeployed) -> tuple[int, int]:
    """The least and the most workers. One that is to go works off what it has, and needs none after that."""
    scaling = deployed.manifest.scaling
    if deployed.retiring:
        return 0, max(1, scaling.max_workers)
    return scaling.min_workers, scaling.max_workers


def rules_for(deployed: ModelDeployed, settings: ScalerSettings) -> Rules:
    """How a model is scaled: by its manifest, and by the scaler's own pace."""
    scaling = deployed.manifest.scaling
    least, most = limits(deployed)
    idle_s = _RETIRED_S if deployed.retiring else scaling.idle_s
    return Rules(
        Dials(least, most, scaling.utilization, scaling.drain_target_s),
        PaceRules(settings.up_step_s, settings.down_window_s, settings.down_step_s, idle_s),
        deployed.partitions,
    )


@dataclass(slots=True)
class Known:
    """One model. depth: None until it was read. busy_at_s: when there was last anything to do."""

    deployed: ModelDeployed
    settings: ScalerSettings
    arrivals: Arrivals = field(default_factory=Arrivals)
    calibration: Calibration = field(default_factory=Calibration)
    pace: Pace = field(default_factory=Pace)
    depth: Depth | None = None
    retrying: int = 0
    busy_at_s: float = 0.0
    load: Load = field(default_factory=Load)
    crew: Crew = field(default_factory=Crew)
    plan: Plan | None = None
    failures: Failures = field(default_factory=Failures)

    @property
    def trouble(self) -> str:
        """Why workers that are wanted do not come, in words; empty when nothing is wrong."""
        count = self.failures.count
        if not count:
            return ""
        what = "a worker has" if count == 1 else f"{count} workers in a row have"
        return f"{what} failed, at last: {self.failures.reason}"

    @property
    def is_fixed(self) -> bool:
        """Whether no load changes its number of workers."""
        least, most = limits(self.deployed)
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
    def target(self) -> int:
        """How many workers there are to be."""
        least, most = limits(self.deployed)
        return min(max(self.pace.target, least), most)

    def is_done(self, now_s: float) -> bool:
        """Whether it is to go, and nothing is left of it to do."""
        if not self.deployed.retiring or self.depth is None or self.depth.backlog or self.target:
            return False
        # Gateways hear of it by then; before that, one may still take a request.
        return now_s - max(self.busy_at_s, self.deployed.deployed_at_s) > _RETIRED_S

    def deploy(self, deployed: ModelDeployed) -> None:
        """Another version of it. What the one before it cost is the first guess."""
        if deployed.version != self.deployed.version:
            self.calibration = replace(self.calibration, completed=0.0, busy_s=0.0, slots=0.0)
        self.deployed = deployed

    def remember(self, learned: Learned) -> None:
        """What a scaler before us has learned."""
        self.calibration = Calibration(learned.work_s, learned.tokens, learned.starts_s)

    def hear(self, before: WorkerHeartbeat, now: WorkerHeartbeat) -> None:
        """What a worker of this version did between two heartbeats."""
        if now.version != self.deployed.version or now.state not in _SERVING:
            return
        self.calibration = self.calibration.learned(
            Sample(
                now.completed - before.completed,
                now.busy_s - before.busy_s,
                now.slot_s - before.slot_s,
                now.capacity,
                now.tokens - before.tokens,
            )
        )

    def started(self, took_s: float) -> None:
        """A worker has become ready."""
        self.calibration = self.calibration.started(took_s)

    def measure(self, depth: Depth, now_s: float) -> None:
        """What lies in its topics now."""
        if self.depth is None:
            self.busy_at_s = now_s
        self.depth = depth
        self.arrivals.tell(depth.total, now_s)
        if depth.backlog or self.retrying or self.arrivals.last_s == now_s:
            self.busy_at_s = now_s

    def decide(self, workers: Sequence[Worker], free: int, now_s: float) -> Plan:
        """How many workers there are to be now. workers: its own that have not ended."""
        rules = rules_for(self.deployed, self.settings)
        running = sum(worker.running for worker in workers)
        backlog = self.depth.backlog if self.depth else 0
        self.load = Load(
            waiting=max(0, backlog - running),
            running=min(running, backlog),
            retrying=self.retrying,
            arriving_per_s=self.arrivals.per_s(now_s, horizon_s(rules.dials, self.cold_start_s)),
            idle_s=now_s - self.busy_at_s,
        )
        starting = [worker for worker in workers if worker.phase is Phase.STARTING]
        self.crew = Crew(
            warm=sum(worker.phase is Phase.READY for worker in workers),
            free=free,
            starting_s=[now_s - worker.started_at_s for worker in starting],
            work_s=self.work_s,
            cold_start_s=self.cold_start_s,
        )
        if self.plan is None:
            # Whoever scaled before us had its reasons.
            self.pace = replace(self.pace, target=self.crew.warm + len(starting))
        self.plan = plan(self.load, self.crew, rules, self.pace, now_s)
        self.pace = self.plan.pace
        return self.plan
