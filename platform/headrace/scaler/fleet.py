"""What the scaler knows: deployed models, what workers say of themselves, who failed. No IO."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from headrace.contracts.decisions import Learned
from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import GatewayHeartbeat, ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.topics import Topics
from headrace.core.planning import Share, shared
from headrace.core.ports import Record
from headrace.core.scaling import Failures, Observed, Phase, Wanted, Worker
from headrace.scaler.actuator import Exit, Unit
from headrace.scaler.known import Depth, Known, limits
from headrace.settings import ScalerSettings

_log = logging.getLogger(__name__)

_STABLE_S: Final = 10.0
"""A worker that has been ready for so long clears its model's failures."""

_LIVE_S: Final = 10.0

LEARNED: Final = "learned/"

_PHASES: Final = {WorkerState.STARTING: Phase.STARTING, WorkerState.READY: Phase.READY}

_STALE_S: Final = 60.0
"""Thirty beats without a word: whoever it was is gone, and its name comes off the compacted topic."""


class Fleet:
    """Fed with records of `models`, `workers` and `scaler`, and with what the actuator sees."""

    def __init__(self, topics: Topics, settings: ScalerSettings) -> None:
        self._topics = topics
        self._settings = settings
        self.known: dict[str, Known] = {}
        self.heartbeats: dict[str, WorkerHeartbeat] = {}
        self._in_unit: defaultdict[str, set[str]] = defaultdict(set)
        self._left: set[str] = set()
        self._learned: dict[str, Learned] = {}
        self._failures: dict[str, Failures] = {}
        self._spawned_s: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}

    def update(self, records: Iterable[Record]) -> None:
        """Take in what was read."""
        takers = {
            self._topics.models: self._update_model,
            self._topics.workers: self._update_worker,
            self._topics.scaler: self._update_learned,
        }
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            try:
                takers[record.place.topic](key, record.value)
            except HeadraceError as error:
                _log.warning("record at %s ignored: %s", record.place, error)

    def failed(self, model: str, now_s: float) -> int:
        """Count a failure of one of the model's workers; returns how many there were in a row."""
        count = self._failures.get(model, Failures()).count + 1
        self._failures[model] = Failures(count, now_s)
        return count

    def spawned(self, worker_id: str, now_s: float) -> None:
        """A worker of ours begins to start, before it can say so itself."""
        self._spawned_s[worker_id] = now_s

    def dead(self, ended: Exit) -> list[WorkerHeartbeat]:
        """The last heartbeats of the workers that ended so."""
        mine = (self.heartbeats[name] for name in self._in_unit.get(ended.unit.id, ()))
        return [beat for beat in mine if beat.started_at_s <= ended.at_s]

    def ended(self, ended: Exit) -> None:
        """A worker of ours has ended, and is not heard again."""
        for beat in self.dead(ended):
            self._drop(beat.id)
        if ended.is_gone:
            self._spawned_s.pop(ended.unit.id, None)

    def measure(self, depths: Mapping[str, Depth], now_s: float) -> None:
        """What lies in the models' topics, by slug."""
        for known in self.known.values():
            depth = depths.get(known.deployed.slug)
            if depth is not None:
                known.measure(depth, now_s)

    def live(self, now_s: float) -> set[str]:
        """Slugs of models of which some worker was heard a moment ago: their commits change."""
        heard = {beat.model for beat in self.heartbeats.values() if now_s - beat.sent_at_s < _LIVE_S}
        return {known.deployed.slug for model, known in self.known.items() if model in heard}

    def plan(self, workers: Sequence[Worker], now_s: float) -> None:
        """Decide for each model whose topics were read, by what they say now."""
        mine = defaultdict(list)
        for worker in workers:
            mine[worker.model].append(worker)
        for model, known in self.known.items():
            if known.depth is not None:
                known.decide(mine[model], self._free(mine[model]), now_s)

    def observe(self, workers: Sequence[Worker], now_s: float) -> Observed:
        """Everything that starts and stops rest on."""
        for worker in workers:
            if worker.phase is Phase.READY and now_s - worker.started_at_s > _STABLE_S:
                self._failures.pop(worker.model, None)
        targets = {model: known.target for model, known in self.known.items()}
        if self._settings.max_workers is not None:
            shares = {
                model: Share(limits(known.deployed)[0], targets[model]) for model, known in self.known.items()
            }
            targets = shared(shares, self._settings.max_workers)
        wanted = {
            model: Wanted(known.deployed.version, targets[model], known.plan.reason if known.plan else "")
            for model, known in self.known.items()
        }
        return Observed(wanted, workers, dict(self._failures))

    def worker(self, unit: Unit) -> Worker:
        """A worker of ours, with what it says of itself."""
        heartbeat = self.latest(unit.id)
        if unit.note:
            self._spawned_s.pop(unit.id, None)  # to wait for room is no part of a start
        if unit.stopping:
            phase = Phase.DRAINING
        elif heartbeat is None:
            phase = Phase.STARTING
        else:
            phase = _PHASES.get(heartbeat.state, Phase.DRAINING)
        running = heartbeat.in_flight if heartbeat is not None else 0
        return Worker(unit.id, unit.model, unit.version, phase, unit.started_at_s, running)

    def latest(self, unit_id: str) -> WorkerHeartbeat | None:
        """What the worker in this unit said last; of the last one, where one follows another."""
        beats = (self.heartbeats[name] for name in self._in_unit.get(unit_id, ()))
        return max(beats, key=lambda beat: beat.started_at_s, default=None)

    def living(self, units: Iterable[str]) -> frozenset[str]:
        """Ids of the workers that are heard from these units."""
        return frozenset(name for unit_id in units for name in self._in_unit.get(unit_id, (unit_id,)))

    def stale(self, living: Collection[str], now_s: float) -> list[str]:
        """Names on `workers` that nobody answers for any more; asked for once each."""
        for name in self._left - set(living):
            self._drop(name)
        self._left &= set(living)
        old = [
            name for name, seen_s in self._seen_s.items() if now_s - seen_s > _STALE_S and name not in living
        ]
        for name in old:
            del self._seen_s[name]
            self._drop(name)
        return old

    def _drop(self, worker_id: str) -> None:
        beat = self.heartbeats.pop(worker_id, None)
        if beat is not None:
            names = self._in_unit[beat.in_unit]
            names.discard(worker_id)
            if not names:
                del self._in_unit[beat.in_unit]

    def _free(self, workers: Sequence[Worker]) -> int:
        """Requests that the ready ones could begin now."""
        beats = (self.latest(each.id) for each in workers if each.phase is Phase.READY)
        return sum(max(0, beat.capacity - beat.in_flight) for beat in beats if beat is not None)

    def _update_model(self, name: str, value: bytes | None) -> None:
        if value is None:
            self.known.pop(name, None)
            return
        deployed = ModelDeployed.decode(value)
        self._failures.pop(name, None)  # a new version deserves a start at once
        if name in self.known:
            self.known[name].deploy(deployed)
            return
        known = self.known[name] = Known(deployed, self._settings)
        if name in self._learned:
            known.remember(self._learned[name])

    def _update_worker(self, worker_id: str, value: bytes | None) -> None:
        if value is None:
            # Its heartbeat is kept for the obituary until the actuator has seen it end.
            self._seen_s.pop(worker_id, None)
            self._left.add(worker_id)
        elif b'"kind":"gateway"' in value:
            self._seen_s[worker_id] = GatewayHeartbeat.decode(value).sent_at_s
        else:
            heartbeat = WorkerHeartbeat.decode(value)
            self._hear(self.heartbeats.get(worker_id), heartbeat)
            self.heartbeats[worker_id] = heartbeat
            self._in_unit[heartbeat.in_unit].add(worker_id)
            self._seen_s[worker_id] = heartbeat.sent_at_s

    def _hear(self, before: WorkerHeartbeat | None, now: WorkerHeartbeat) -> None:
        known = self.known.get(now.model)
        if known is None or before is None:
            return
        if before.state is WorkerState.STARTING and now.state is WorkerState.READY:
            known.started(now.sent_at_s - self._spawned_s.pop(now.in_unit, now.started_at_s))
        known.hear(before, now)

    def _update_learned(self, key: str, value: bytes | None) -> None:
        if not key.startswith(LEARNED):
            return
        model = key.removeprefix(LEARNED)
        if value is None:
            self._learned.pop(model, None)
            return
        learned = self._learned[model] = Learned.decode(value)
        known = self.known.get(model)
        if known is not None and known.calibration.work_s is None:
            known.remember(learned)
