"""What the scaler knows: deployed models, what workers say of themselves, who failed. No IO."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from headrace.contracts.decisions import Learned
from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import GatewayHeartbeat, ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.topics import Topics
from headrace.core.budget import afford
from headrace.core.planning import Share, shared
from headrace.core.ports import Record
from headrace.core.scaling import Action, Failures, Observed, Phase, Wanted, Worker
from headrace.scaler.actuator import Cause, Exit, Unit
from headrace.scaler.known import SERVING, Depth, Grant, Known, limits
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
        self._settled: dict[str, int] = {}
        self._took: list[tuple[str, float]] = []

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

    def took(self) -> list[tuple[str, float]]:
        """Models whose workers have become ready since the last call, and in how long (seconds)."""
        took, self._took = self._took, []
        return took

    def dead(self, ended: Exit) -> list[WorkerHeartbeat]:
        """The last heartbeats of the workers that ended so."""
        mine = (self.heartbeats[name] for name in self._in_unit.get(ended.unit.id, ()))
        return [beat for beat in mine if beat.started_at_s <= ended.at_s]

    def ended(self, ended: Exit) -> None:
        """A worker of ours has ended, and is not heard again."""
        known = self.known.get(ended.unit.model)
        if known is not None and ended.cause is not Cause.ASKED:
            known.account.restart()  # nobody has heard of what it did last
        for beat in self.dead(ended):
            self._drop(beat.id)
        if ended.is_gone:
            self._spawned_s.pop(ended.unit.id, None)

    def measure(self, depths: Mapping[str, Depth], now_s: float) -> None:
        """What lies in the models' topics, by slug."""
        silent, serving = Counter[str](), set[str]()
        for beat in self.heartbeats.values():
            if now_s - beat.sent_at_s >= _LIVE_S:
                silent[beat.model] += beat.in_flight
            elif beat.state in SERVING:
                serving.add(beat.model)
        for model, known in self.known.items():
            known.silent = silent[model]
            depth = depths.get(known.deployed.slug)
            if depth is not None:
                known.measure(depth, now_s, is_served=model in serving)

    def returning(self, due: Mapping[str, Sequence[float]]) -> None:
        """When requests come back for another attempt (Unix times, rising), by slug."""
        for known in self.known.values():
            known.returns_s = due.get(known.deployed.slug, ())

    def by_slug(self) -> dict[str, Known]:
        """All that is known, by slug."""
        return {known.deployed.slug: known for known in self.known.values()}

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
        self._share()
        wanted = {
            model: Wanted(known.deployed.version, known.allowed, known.reason)
            for model, known in self.known.items()
        }
        return Observed(wanted, workers, dict(self._failures))

    def _share(self) -> None:
        """What each may have of what all share."""
        most, most_gpus = self._settings.max_workers, self._settings.max_gpus
        for known in self.known.values():
            known.grant = None
        if most is None and most_gpus is None:
            return
        shares = {
            model: Share(limits(known.deployed)[0], known.target, known.gpus)
            for model, known in self.known.items()
        }
        for_workers = shared(shares, most)
        for model, number in shared(shares, most, most_gpus).items():
            known = self.known[model]
            if number < known.target:
                budget = "GPU budget" if number < for_workers[model] else "budget of workers"
                known.grant = Grant(number, f"{budget}: {number} of {known.target}")

    def afford(self, actions: Sequence[Action], workers: Sequence[Worker]) -> Sequence[Action]:
        """Only those for which there are GPUs, and what makes room for the others."""
        if self._settings.max_gpus is None:
            return actions
        gpus = {model: known.gpus for model, known in self.known.items()}
        found = afford(actions, workers, gpus, self._settings.max_gpus)
        for model, number in found.refused.items():
            known = self.known[model]
            known.grant = Grant(known.allowed, f"GPU budget: {number} wait until others have ended")
        return found.actions

    def worker(self, unit: Unit) -> Worker:
        """A worker of ours, with what it says of itself."""
        heartbeat = self.latest(unit.id)
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
            self._settled.pop(name, None)
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
            self._settled.pop(worker_id, None)
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
        if known is None:
            return
        # Its end may be seen before its last word is read.
        settled = self._settled.get(now.id, 0)
        if not settled and before is None and now.settled:
            known.account.restart()  # what it did before we heard of it is in no count
        else:
            known.told += now.settled - settled
        self._settled[now.id] = now.settled
        if before is None:
            return
        if before.state is WorkerState.STARTING and now.state is WorkerState.READY:
            took_s = now.sent_at_s - self._spawned_s.pop(now.in_unit, now.started_at_s)
            known.started(took_s)
            self._took.append((now.model, took_s))
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
