"""What the scaler measures of itself and of what it sees. No IO but through instruments."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.core.scaling import Phase, Worker
from headrace.scaler.actuator import Cause, Exit
from headrace.scaler.fleet import Fleet
from headrace.scaler.known import Known
from headrace.telemetry import metrics
from headrace.telemetry.instruments import Instruments

_ENDS: Final = {Cause.ASKED: "asked", Cause.KILLED: "killed", Cause.FAILED: "failed", Cause.CRASHED: "failed"}
_OF_MODELS: Final = (
    *(metrics.TARGET, metrics.WORK, metrics.ARRIVING, metrics.COLD_START, metrics.REQUEST_WORK),
    *(metrics.STAGES, metrics.LAG, metrics.WAITING_TOKENS, metrics.OLDEST, metrics.UNACCOUNTED),
    *(metrics.WORKERS, metrics.FAILURES, metrics.UNSEEN),
)
_CAUSES: Final = ("overdue", *dict.fromkeys(_ENDS.values()))


@dataclass(slots=True)
class _Reaction:
    """Of a model without workers, since its first request was seen. told: what workers had done with then."""

    began_s: float
    told: int
    is_decided: bool = False
    is_warm: bool = False


class Meters:
    """Told every tick, and of what is done."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._told_s: float | None = None
        self._reactions: dict[str, _Reaction] = {}
        self._stopping_s: dict[str, float] = {}

    def tell(self, fleet: Fleet, workers: Sequence[Worker], began_s: float, now_s: float) -> None:
        """What is known now. began_s: when this scaler did."""
        for metric in _OF_MODELS:
            self._instruments.clear(metric)  # of models that are gone
        for model, known in fleet.known.items():
            self._tell(model, known, now_s)
            self._instruments.series(metrics.UNSEEN, model).set(known.unseen_s(began_s, now_s))
        for (model, phase), number in Counter((each.model, each.phase.value) for each in workers).items():
            self._instruments.series(metrics.WORKERS, model, phase).set(number)
        for model, took_s in fleet.took():
            self._instruments.series(metrics.START_DURATION, model).observe(took_s)
        self._tell_idle(fleet.known, workers, now_s)
        self._react(fleet.known, workers, now_s)

    def tell_nothing(self) -> None:
        """Who does not act says nothing of what it would do."""
        for metric in (*_OF_MODELS, metrics.EPOCH):
            self._instruments.clear(metric)
        self._reactions.clear()
        self._told_s = None

    def leads(self, epoch: int | None) -> None:
        """Whether it is this scaler that acts."""
        self._instruments.series(metrics.LEADS).set(0 if epoch is None else 1)
        if epoch is not None:
            self._instruments.series(metrics.EPOCH).set(epoch)

    def started(self, model: str, now_s: float) -> None:
        """A worker of the model is about to be started."""
        reaction = self._reactions.get(model)
        if reaction is not None and not reaction.is_decided:
            reaction.is_decided = True
            self._reacted(model, "decided", now_s - reaction.began_s)

    def stopped(self, unit_id: str, now_s: float) -> None:
        """It is told to drain."""
        self._stopping_s[unit_id] = now_s

    def ended(self, ended: Exit) -> None:
        """It is no more."""
        unit = ended.unit
        asked_s = self._stopping_s.pop(unit.id, None)
        cause = "overdue" if unit.stopping and ended.cause is Cause.KILLED else _ENDS[ended.cause]
        self._instruments.series(metrics.WORKER_ENDS, unit.model, cause).add(1)
        if asked_s is not None:
            self._instruments.series(metrics.DRAIN_DURATION, unit.model).observe(ended.at_s - asked_s)

    def _tell(self, model: str, known: Known, now_s: float) -> None:
        series, load, depth = self._instruments.series, known.load, known.depth
        lag = depth.lag if depth else 0
        for stage, number in (
            ("waiting", load.waiting),
            ("running", load.running),
            ("retrying", len(known.returns_s)),
            ("uncommitted", lag - depth.backlog if depth else 0),
        ):
            series(metrics.STAGES, model, stage).set(number)
        series(metrics.LAG, model).set(lag)
        series(metrics.TARGET, model).set(known.allowed)
        series(metrics.WORK, model).set(load.waiting * (known.waiting_work_s or 0.0))
        series(metrics.WAITING_TOKENS, model).set(known.backlog_tokens)
        series(metrics.REQUEST_WORK, model).set(known.work_s or 0.0)
        series(metrics.OLDEST, model).set(known.oldest_s(now_s) or 0.0)
        series(metrics.ARRIVING, model).set(load.arriving_per_s)
        series(metrics.SETTLED, model).set(known.told)
        series(metrics.COLD_START, model).set(known.cold_start_s)
        series(metrics.UNACCOUNTED, model).set(known.unaccounted)
        series(metrics.FAILURES, model).set(known.failures.count)
        # A counter that begins with its first event has not grown, and no alert hears of it.
        series(metrics.ROLL_BACKS, model)
        for cause in _CAUSES:
            series(metrics.WORKER_ENDS, model, cause)

    def _tell_idle(self, known: Mapping[str, Known], workers: Sequence[Worker], now_s: float) -> None:
        passed_s = 0.0 if self._told_s is None else now_s - self._told_s
        self._told_s = now_s
        for worker in workers:
            if worker.phase is Phase.READY and not worker.running and worker.model in known:
                gpus = max(1, known[worker.model].gpus)
                self._instruments.series(metrics.IDLE, worker.model).add(passed_s * gpus)

    def _react(self, known: Mapping[str, Known], workers: Sequence[Worker], now_s: float) -> None:
        """How long it takes from the first request to a worker and to its first answer."""
        served = {worker.model for worker in workers}
        ready = {worker.model for worker in workers if worker.phase is Phase.READY}
        for model, each in known.items():
            reaction = self._reactions.get(model)
            if reaction is None:
                if each.load.waiting and model not in served:
                    self._reactions[model] = _Reaction(now_s, each.told)
                continue
            if model in ready and not reaction.is_warm:
                reaction.is_warm = True
                self._reacted(model, "warm", now_s - reaction.began_s)
            if each.told > reaction.told:
                self._reacted(model, "answered", now_s - reaction.began_s)
            if each.told > reaction.told or not (each.load.waiting or each.load.running):
                del self._reactions[model]
        for gone in self._reactions.keys() - known.keys():
            del self._reactions[gone]

    def _reacted(self, model: str, stage: str, took_s: float) -> None:
        self._instruments.series(metrics.REACTION, model, stage).observe(took_s)
