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
    """A worker that has been started and has not ended. `running`: requests that it has begun.

    fault: why it is of no use; it is ended at once.
    """

    id: str
    model: str
    version: str
    phase: Phase
    started_at_s: float
    running: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is deployed under a model's name, by how many workers, and why so many."""

    version: str
    workers: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failures:
    """Starts or workers of a model that failed in a row. reason: of the last one."""

    count: int = 0
    last_at_s: float = 0.0
    reason: str = ""


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
    """Tell one worker to drain and end; with `force`, end it."""

    worker_id: str
    reason: str
    force: bool = False


Action = Start | Stop


def decide(observed: Observed, backoff_s: Sequence[float], now_s: float) -> tuple[Action, ...]:
    """What to do now. `backoff_s`: wait after the n-th failure in a row; the last one repeats."""
    actions: list[Action] = []
    by_model: dict[str, list[Worker]] = {model: [] for model in observed.models}
    for worker in observed.workers:
        by_model.setdefault(worker.model, []).append(worker)
    for model, mine in sorted(by_model.items()):
        actions += [Stop(worker.id, worker.fault, force=True) for worker in mine if worker.fault]
        alive = [worker for worker in mine if not worker.fault]
        crew = _Crew(model, observed.models.get(model), alive)
        if crew.wanted is None:
            actions += [Stop(each.id, f"model {model} is no longer deployed") for each in crew.staying]
            continue
        wait_s = wait(observed.failures.get(model, Failures()), backoff_s, now_s)
        actions += crew.starts(crew.wanted) if wait_s <= 0 else ()
        actions += crew.stops(crew.wanted)
    return tuple(actions)


def wait(failures: Failures, backoff_s: Sequence[float], now_s: float) -> float:
    """Seconds until a worker may be started again; at most 0 when it may."""
    if failures.count == 0 or now_s < failures.last_at_s:
        return 0.0  # after a clock was set back, nobody knows how long ago that was
    pause_s = backoff_s[min(failures.count, len(backoff_s)) - 1]
    return failures.last_at_s + pause_s - now_s


class _Crew:
    """A model's workers, of the version that is wanted and of others."""

    def __init__(self, model: str, wanted: Wanted | None, alive: Sequence[Worker]) -> None:
        self.model = model
        self.wanted = wanted
        self.staying = [worker for worker in alive if worker.phase is not Phase.DRAINING]
        version = None if wanted is None else wanted.version
        self._current = [worker for worker in self.staying if worker.version == version]
        self._old = [worker for worker in self.staying if worker.version != version]
        self._ready = sum(worker.phase is Phase.READY for worker in self._current)

    def starts(self, wanted: Wanted) -> list[Action]:
        """As many as are missing and as there is room for."""
        goal = wanted.workers
        if self._old and not self._ready:
            # While others serve, one shows that the version is well before there are more of it.
            goal = min(goal, 1)
        have = len(self._current)
        reason = f"{have} of {wanted.workers} workers of version {wanted.version}"
        if wanted.reason:
            reason += f": {wanted.reason}"
        return [Start(self.model, wanted.version, reason)] * (goal - have)

    def stops(self, wanted: Wanted) -> list[Action]:
        """Those that are too many, and old ones for each new one that is ready."""
        surplus = sorted(self._current, key=loss)[: max(0, len(self._current) - wanted.workers)]
        why = f": {wanted.reason}" if wanted.reason else ""
        stops: list[Action] = [Stop(w.id, f"more than {wanted.workers} workers{why}") for w in surplus]
        # The old version serves until the new one can.
        kept = max(0, wanted.workers - self._ready)
        leaving = sorted(self._old, key=loss)[: max(0, len(self._old) - kept)]
        stops += [Stop(worker.id, f"version {wanted.version} has taken over") for worker in leaving]
        return stops


def loss(worker: Worker) -> tuple[bool, int, float]:
    """Who goes first: those that are not there yet, those with the least to finish, the newest."""
    return (worker.phase is Phase.READY, worker.running, -worker.started_at_s)
