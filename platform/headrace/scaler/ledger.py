"""Which decisions are written down, and what was learned. No IO."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from headrace.contracts.decisions import Decision, Learned
from headrace.core.calibration import Calibration
from headrace.core.experience import Experience
from headrace.core.scaling import Phase, Worker
from headrace.scaler.known import Known

_BUSY_S: Final = 1.0
_IDLE_S: Final = 60.0
_LEARNED_S: Final = 10.0
_CHANGE: Final = 0.1
_PLACES: Final = 6


class Ledger:
    """Remembers what was written last."""

    def __init__(self) -> None:
        self._seq = 0
        self._decided: dict[str, Decision] = {}
        self._learned: dict[str, Learned] = {}
        self._experience: dict[str, Experience] = {}

    def decisions(
        self,
        epoch: int,
        known: Mapping[str, Known],
        workers: Iterable[Worker],
        actions: Mapping[str, Sequence[str]],
        now_s: float,
    ) -> list[Decision]:
        """Those that are to be written now. actions: what is about to be done, by model.

        epoch: of this scaler's leadership.
        """
        by_model = defaultdict(list)
        for worker in workers:
            by_model[worker.model].append(worker.phase)
        found = []
        for model, each in known.items():
            done = tuple(actions.get(model, ()))
            if done or self._is_due(each, now_s):
                decision = self._decision(epoch, each, by_model[model], done, now_s)
                self._decided[model] = decision
                found.append(decision)
        return found

    def learned(self, known: Mapping[str, Known], now_s: float) -> list[Learned]:
        """What the next scaler should know, as far as it has changed."""
        found = []
        for model, each in known.items():
            calibration = each.calibration
            if not self._has_learned(each, now_s):
                continue
            self._experience[model] = each.experience
            brief = each.experience.brief()
            self._learned[model] = Learned(
                model=model,
                work_s=calibration.work_s,
                mean=calibration.mean,
                cost=calibration.costs.cost,
                starts_s=calibration.starts_s,
                pauses_s=brief.pauses_s,
                spells_s=brief.spells_s,
                lulls_s=brief.lulls_s,
                at_s=now_s,
            )
            found.append(self._learned[model])
        return found

    def forget(self, model: str) -> None:
        """It is no longer deployed."""
        self._decided.pop(model, None)
        self._learned.pop(model, None)
        self._experience.pop(model, None)

    def _has_learned(self, known: Known, now_s: float) -> bool:
        """Whether there is something to write, and time to."""
        model, calibration = known.deployed.name, known.calibration
        if calibration.work_s is None and not calibration.starts_s:
            return False
        before = self._learned.get(model)
        if before is None:
            return True
        if now_s - before.at_s < _LEARNED_S:
            return False
        return known.experience != self._experience[model] or _differs(before, calibration)

    def _is_due(self, known: Known, now_s: float) -> bool:
        before = self._decided.get(known.deployed.name)
        now = (known.allowed, known.deployed.version, known.unaccounted, known.unread)
        if before is None or now != (before.target, before.version, before.unaccounted, before.unread):
            return True
        if before.failures != known.failures.count:
            return True
        is_busy = known.load.waiting or known.load.running or known.returns_s
        arrived = known.arrivals.total != before.arrived
        return now_s - before.at_s >= (_BUSY_S if is_busy or arrived else _IDLE_S)

    def _decision(
        self, epoch: int, known: Known, phases: Sequence[Phase], actions: tuple[str, ...], now_s: float
    ) -> Decision:
        self._seq += 1
        load, plan, depth = known.load, known.plan, known.depth
        work_s, backlog_s = known.work_s, known.backlog_s
        return Decision(
            model=known.deployed.name,
            version=known.deployed.version,
            at_s=now_s,
            epoch=epoch,
            seq=self._seq,
            waiting=load.waiting,
            running=load.running,
            retrying=len(known.returns_s),
            arrived=known.arrivals.total,
            arriving_per_s=round(load.arriving_per_s, _PLACES),
            work_s=None if work_s is None else round(work_s, _PLACES),
            tokens=round(known.calibration.tokens, 1),
            backlog_tokens=round(known.backlog_tokens),
            backlog_s=None if backlog_s is None else round(backlog_s, 3),
            lag=depth.lag if depth else 0,
            lagging=depth.lagging if depth else 0,
            oldest_s=known.oldest_s(now_s),
            unaccounted=known.unaccounted,
            cold_start_s=round(known.cold_start_s, 3),
            warm=phases.count(Phase.READY),
            starting=phases.count(Phase.STARTING),
            draining=phases.count(Phase.DRAINING),
            needed=plan.needed if plan is not None else known.target,
            target=known.allowed,
            reason=known.reason or "its topics have not been read yet",
            failures=known.failures.count,
            unread=known.unread,
            actions=actions,
        )


def _differs(before: Learned, now: Calibration) -> bool:
    if before.starts_s != now.starts_s or (before.work_s is None) != (now.work_s is None):
        return True
    return abs((now.work_s or 0.0) - (before.work_s or 0.0)) > _CHANGE * (before.work_s or 0.0)
