"""Which workers to start and to stop, so that each model has as many as it is to have. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a worker stands, as the scaler sees it."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has been started and has not ended. `running`: requests that it has begun."""

    id: str
    model: str
    version: str
    phase: Phase
    started_at_s: float
    running: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is deployed under a model's name, by how many workers, and why so many."""

    version: str
    workers: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failures:
    """Starts or workers of a model that failed in a row."""

    count: int = 0
    last_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a decision rests on."""

    models: Mapping[str, Wanted]
    workers: Sequence[Worker]
    failures: Mapping[str, Failures]


@dataclass(frozen=True, slots=True)
class Start:
    """Start one worker."""

    model: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell one worker to drain and end."""

    worker_id: str
    reason: str


Action = Start | Stop


def decide(observed: Observed, backoff_s: Sequence[float], now_s: float) -> tuple[Action, ...]:
    """What to do now. `backoff_s`: wait after the n-th failure in a row; the last one repeats."""
    actions: list[Action] = []
    by_model: dict[str, list[Worker]] = {model: [] for model in observed.models}
    for worker in observed.workers:
        mine = by_model.setdefault(worker.model, [])
        if worker.phase is not Phase.DRAINING:
            mine.append(worker)
    for model, mine in sorted(by_model.items()):
        wanted = observed.models.get(model)
        if wanted is None:
            actions += [Stop(worker.id, f"model {model} is no longer deployed") for worker in mine]
            continue
        current = [worker for worker in mine if worker.version == wanted.version]
        actions += _starts(model, wanted, len(current), _wait_s(observed, model, backoff_s, now_s))
        actions += _stops(wanted, mine, current)
    return tuple(actions)


def _wait_s(observed: Observed, model: str, backoff_s: Sequence[float], now_s: float) -> float:
    failures = observed.failures.get(model, Failures())
    if failures.count == 0:
        return 0.0
    pause_s = backoff_s[min(failures.count, len(backoff_s)) - 1]
    return failures.last_at_s + pause_s - now_s


def _starts(model: str, wanted: Wanted, have: int, wait_s: float) -> list[Action]:
    missing = wanted.workers - have
    if missing <= 0 or wait_s > 0:
        return []
    reason = f"{have} of {wanted.workers} workers of version {wanted.version}"
    if wanted.reason:
        reason += f": {wanted.reason}"
    return [Start(model, wanted.version, reason)] * missing


def _stops(wanted: Wanted, mine: Sequence[Worker], current: Sequence[Worker]) -> list[Action]:
    surplus = sorted(current, key=_loss)[: max(0, len(current) - wanted.workers)]
    why = f": {wanted.reason}" if wanted.reason else ""
    stops: list[Action] = [Stop(w.id, f"more than {wanted.workers} workers{why}") for w in surplus]
    ready = sum(worker.phase is Phase.READY for worker in current)
    if ready >= wanted.workers:
        # The old version serves until the new one can.
        old = (worker for worker in mine if worker.version != wanted.version)
        stops += [Stop(worker.id, f"version {wanted.version} has taken over") for worker in old]
    return stops


def _loss(worker: Worker) -> tuple[bool, int, float]:
    """Who goes first: those that are not there yet, those with the least to finish, the newest."""
    return (worker.phase is Phase.READY, worker.running, -worker.started_at_s)
