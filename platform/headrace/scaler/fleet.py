"""What the scaler knows: deployed models, what workers say of themselves, who failed. No IO."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.topics import Topics
from headrace.core.ports import Record
from headrace.core.scaling import Failures, Observed, Phase, Wanted, Worker

_log = logging.getLogger(__name__)

_STABLE_S = 10.0


class Fleet:
    """Fed with records of `models` and `workers`, and with what the actuator sees."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.models: dict[str, ModelDeployed] = {}
        self.heartbeats: dict[str, WorkerHeartbeat] = {}
        self._failures: dict[str, Failures] = {}

    def update(self, records: Iterable[Record]) -> None:
        """Take in what was read."""
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            try:
                if record.place.topic == self._topics.models:
                    self._update_model(key, record.value)
                else:
                    self._update_worker(key, record.value)
            except HeadraceError as error:
                _log.warning("record at %s ignored: %s", record.place, error)

    def failed(self, model: str, now_s: float) -> int:
        """Count a failure of one of the model's workers; returns how many there were in a row."""
        count = self._failures.get(model, Failures()).count + 1
        self._failures[model] = Failures(count, now_s)
        return count

    def observe(self, children: Sequence[Worker], now_s: float) -> Observed:
        """Everything the next decision rests on."""
        for worker in children:
            if worker.phase is Phase.READY and now_s - worker.started_at_s > _STABLE_S:
                self._failures.pop(worker.model, None)
        wanted: Mapping[str, Wanted] = {
            name: Wanted(model.version, model.manifest.scaling.min_workers)
            for name, model in self.models.items()
        }
        return Observed(wanted, children, dict(self._failures))

    def phase(self, worker_id: str, *, stopping: bool) -> Phase:
        """Where a worker of ours stands."""
        if stopping:
            return Phase.DRAINING
        heartbeat = self.heartbeats.get(worker_id)
        if heartbeat is None or heartbeat.state is WorkerState.STARTING:
            return Phase.STARTING
        return Phase.READY if heartbeat.state is WorkerState.READY else Phase.DRAINING

    def _update_model(self, name: str, value: bytes | None) -> None:
        if value is None:
            self.models.pop(name, None)
        else:
            self.models[name] = ModelDeployed.decode(value)
            self._failures.pop(name, None)  # a new version deserves a start at once

    def _update_worker(self, worker_id: str, value: bytes | None) -> None:
        if value is None:
            # Kept for its obituary until the actuator has seen it end.
            return
        if b'"kind":"worker"' in value:
            self.heartbeats[worker_id] = WorkerHeartbeat.decode(value)
