"""What the scaler knows: deployed models, what workers say of themselves, who failed. No IO."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import GatewayHeartbeat, ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.topics import Topics
from headrace.core.ports import Record
from headrace.core.scaling import Failures, Observed, Phase, Wanted, Worker

_log = logging.getLogger(__name__)

_STABLE_S: Final = 10.0
"""A worker that has been ready for so long clears its model's failures."""

_STALE_S: Final = 60.0
"""Thirty beats without a word: whoever it was is gone, and its name comes off the compacted topic."""


class Fleet:
    """Fed with records of `models` and `workers`, and with what the actuator sees."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.models: dict[str, ModelDeployed] = {}
        self.heartbeats: dict[str, WorkerHeartbeat] = {}
        self._failures: dict[str, Failures] = {}
        self._seen_s: dict[str, float] = {}

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

    def stale(self, living: Collection[str], now_s: float) -> list[str]:
        """Names on `workers` that nobody answers for any more; asked for once each."""
        old = [
            name for name, seen_s in self._seen_s.items() if now_s - seen_s > _STALE_S and name not in living
        ]
        for name in old:
            del self._seen_s[name]
            self.heartbeats.pop(name, None)
        return old

    def _update_model(self, name: str, value: bytes | None) -> None:
        if value is None:
            self.models.pop(name, None)
        else:
            self.models[name] = ModelDeployed.decode(value)
            self._failures.pop(name, None)  # a new version deserves a start at once

    def _update_worker(self, worker_id: str, value: bytes | None) -> None:
        if value is None:
            # Its heartbeat is kept for the obituary until the actuator has seen it end.
            self._seen_s.pop(worker_id, None)
        elif b'"kind":"gateway"' in value:
            self._seen_s[worker_id] = GatewayHeartbeat.decode(value).sent_at_s
        else:
            heartbeat = WorkerHeartbeat.decode(value)
            self.heartbeats[worker_id] = heartbeat
            self._seen_s[worker_id] = heartbeat.sent_at_s
