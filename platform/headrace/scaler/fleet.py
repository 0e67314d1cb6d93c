"""What the scaler knows: deployed models, what workers say of themselves, who failed. No IO."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from headrace.contracts.decisions import Learned, Trusted
from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import (
    GatewayHeartbeat,
    ModelDeployed,
    RolledBack,
    WorkerHeartbeat,
    WorkerState,
)
from headrace.contracts.topics import Topics
from headrace.core.budget import Pool, afford
from headrace.core.planning import shared
from headrace.core.ports import Record
from headrace.core.rollout import is_over, stable, unfit
from headrace.core.scaling import Action, Failures, Observed, Phase, Wanted, Worker
from headrace.scaler.actuator import Cause, Exit, Unit
from headrace.scaler.known import SERVING, Depth, Grant, Known
from headrace.settings import ScalerSettings

_log = logging.getLogger(__name__)

_LIVE_S: Final = 10.0

LEARNED: Final = "learned/"
TRUSTED: Final = "trusted/"

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
        self._trusted: dict[str, ModelDeployed] = {}
        self._ready_s: dict[str, float] = {}
        self._condemned: dict[str, str] = {}
        self._hearing_s = 0.0
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

    def failed(self, unit: Unit, reason: str, now_s: float) -> int:
        """Count a failure of one of the model's workers; returns how many there were in a row.

        How workers of another version end says nothing of the one that is deployed.
        """
        known, count = self.known.get(unit.model), self._failures.get(unit.model, Failures()).count
        if known is None or known.deployed.version != unit.version:
            return count
        self._failures[unit.model] = Failures(count + 1, now_s, reason)
        return count + 1

    def condemn(self, unit_id: str, reason: str) -> None:
        """A unit of ours is to be ended for this reason, and has failed by it, however it ends."""
        self._condemned[unit_id] = reason

    def deaf(self, now_s: float) -> None:
        """Kafka does not answer, or others act: that nobody is heard says nothing of them."""
        self._hearing_s = now_s

    def resign(self) -> None:
        """Another may act now: what was seen and decided here is of the past when we do again."""
        self._took.clear()
        for known in self.known.values():
            known.depth = known.plan = None

    def verdict(self, ended: Exit) -> str | None:
        """Why its worker has failed; None when it is no fault of the model.

        What it said itself says more than how its process ended.
        """
        condemned = self._condemned.get(ended.unit.id)
        if condemned is not None:
            return condemned
        if ended.cause not in (Cause.FAILED, Cause.CRASHED):
            return None
        told = (beat.reason for beat in self.dead(ended) if beat.state is WorkerState.FAILED and beat.reason)
        return next(told, ended.reason)

    def spawned(self, worker_id: str, now_s: float) -> None:
        """A worker of ours begins to start, before it can say so itself."""
        self._spawned_s[worker_id] = max(now_s, self._spawned_s.get(worker_id, now_s))

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
        for noted in (self._spawned_s, self._ready_s, self._condemned):
            noted.pop(ended.unit.id, None)

    def measure(
        self, depths: Mapping[str, Depth], now_s: float, faults: Mapping[str, str] | None = None
    ) -> None:
        """What lies in the models' topics, by slug. faults: why those of others could not be read."""
        silent, serving = Counter[str](), set[str]()
        for beat in self.heartbeats.values():
            if now_s - beat.sent_at_s >= _LIVE_S:
                silent[beat.model] += beat.in_flight
            elif beat.state in SERVING:
                serving.add(beat.model)
        for model, known in self.known.items():
            known.silent = silent[model]
            slug = known.deployed.slug
            depth, fault = depths.get(slug), (faults or {}).get(slug, "")
            if depth is None and not fault:
                if known.deployed.retiring:  # whoever began to remove it got as far as its topics
                    depth = known.depth or Depth(0, 0)
                else:
                    fault = "its topics are not there, or not shown to us"
            if fault and fault != known.unread:
                _log.warning("what waits for %s is not known, and nothing changes there: %s", model, fault)
            known.unread = fault
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

    def plan(self, workers: Sequence[Worker], now_s: float, *, is_read: bool = True) -> None:
        """Decide for each model by what its topics say; where they were not read, what was decided stands.

        is_read: whether Kafka told of any.
        """
        mine = _by_model(workers)
        for model, known in self.known.items():
            known.failures = self._failures.get(model, Failures())
            known.is_tried = self._is_tried(known.deployed)
            if is_read and known.depth is not None and not known.unread:
                known.decide(mine[model], self._free(mine[model]), now_s)
            else:
                known.keep(mine[model], now_s)

    def _is_tried(self, deployed: ModelDeployed) -> bool:
        trusted = self._trusted.get(deployed.name)
        return trusted is not None and trusted.version != deployed.version

    def observe(self, workers: Sequence[Worker], now_s: float) -> Observed:
        """Everything that starts and stops rest on."""
        self._share(now_s)
        wanted = {model: _wanted(known) for model, known in self.known.items()}
        return Observed(wanted, workers, dict(self._failures))

    def _share(self, now_s: float) -> None:
        """What each may have of what all share."""
        most, most_gpus = self._settings.max_workers, self._settings.max_gpus
        for known in self.known.values():
            known.grant = None
        if most is None and most_gpus is None:
            return
        shares = {model: known.share(now_s) for model, known in self.known.items()}
        for_workers = shared(shares, most)
        for model, number in shared(shares, most, most_gpus).items():
            known = self.known[model]
            known.turn = known.turn.told(known.target, number, now_s)
            if number < known.target:
                budget = "GPU budget" if number < for_workers[model] else "budget of workers"
                known.grant = Grant(number, f"{budget}: {number} of {known.target}")

    def afford(self, actions: Sequence[Action], workers: Sequence[Worker], now_s: float) -> Sequence[Action]:
        """Only those for which there is room, and what makes room for the others."""
        found = afford(actions, workers, self._pools())
        there = {worker.model for worker in workers}
        for model, (number, pool) in found.refused.items():
            known = self.known[model]
            if model not in there:
                known.turn = known.turn.delayed(now_s)
            known.grant = Grant(known.allowed, f"{pool}: {number} wait until others have ended")
        return found.actions

    def _pools(self) -> list[Pool]:
        """What is limited."""
        found = []
        if self._settings.max_gpus is not None:
            gpus = {model: known.gpus for model, known in self.known.items()}
            before = {
                (model, each.version): each.manifest.scaling.gpus
                for model, each in self._trusted.items()
                if model in self.known and each.version != self.known[model].deployed.version
            }
            found.append(Pool("GPU budget", gpus, self._settings.max_gpus, before))
        for model, known in self.known.items():
            surge = known.deployed.manifest.scaling.surge
            if surge is not None:
                found.append(Pool("surge", {model: 1}, max(known.limits[1], 1) + surge))
        return found

    def prove(self, workers: Sequence[Worker], now_s: float) -> list[ModelDeployed]:
        """Versions that are to be trusted, because a worker has been well for a while."""
        for worker in workers:
            if worker.phase is Phase.READY:
                # Nothing is still to come: a clock may be set back.
                self._ready_s[worker.id] = min(self._ready_s.get(worker.id, now_s), now_s)
        found = []
        by_model = _by_model(workers)
        for model, known in self.known.items():
            deployed = known.deployed
            since_s = stable(by_model[model], deployed.version, self._ready_s, now_s)
            if not since_s:
                continue
            if is_over(self._failures.get(model, Failures()), since_s, known.allowed):
                self._failures.pop(model, None)
            trusted = self._trusted.get(model)
            if trusted is None or trusted.version != deployed.version:
                found.append(deployed)
        return found

    def trust(self, deployed: ModelDeployed) -> None:
        """It was written down that the version is well."""
        self._trusted[deployed.name] = deployed

    def roll_backs(self, now_s: float) -> list[ModelDeployed]:
        """Deployments to come back, because the version after each was never well."""
        found = []
        for model, known in self.known.items():
            now, trusted = known.deployed, self._trusted.get(model)
            failures = self._failures.get(model, Failures())
            version = None if trusted is None else trusted.version
            reason = unfit(now.version, version, failures, now.manifest.health.failures)
            if reason is None or trusted is None or now.retiring:
                continue
            rolled_back = RolledBack(version=now.version, reason=reason, at_s=now_s)
            changes = {
                "deployed_at_s": now_s,
                "partitions": now.partitions,
                "rolled_back": rolled_back,
                # It may have been on its way out when it was found to be well.
                "retiring": False,
                "returning": False,
            }
            found.append(trusted.model_copy(update=changes))
        return found

    def see(self, units: Iterable[Unit]) -> None:
        """What their actuator says of all that have not ended."""
        notes, there = defaultdict(list), set[str]()
        for unit in units:
            there.add(unit.id)
            if unit.note:
                notes[unit.model].append(unit.note)
        for model, known in self.known.items():
            known.notes = notes[model]
        # Orders that could not be carried out have begun nothing, and are given anew under other names.
        self._spawned_s = {name: at_s for name, at_s in self._spawned_s.items() if name in there}

    def worker(self, unit: Unit, now_s: float) -> Worker:
        """A worker of ours, with what it says of itself."""
        heartbeat = self.latest(unit.id)
        if unit.note:
            self._spawned_s[unit.id] = now_s  # to wait for room is no part of a start
        if unit.stopping:
            phase = Phase.DRAINING
        elif heartbeat is None:
            phase = Phase.STARTING
        else:
            phase = _PHASES.get(heartbeat.state, Phase.DRAINING)
        running = heartbeat.in_flight if heartbeat is not None else 0
        began_s = max(unit.started_at_s, self._spawned_s.get(unit.id, unit.started_at_s))
        fault = self._fault(unit, phase, heartbeat, now_s - began_s, now_s)
        if not fault and not unit.stopping:
            self._condemned.pop(unit.id, None)  # it was not ended, and is well again
        return Worker(unit.id, unit.model, unit.version, phase, began_s, running, fault)

    def _fault(
        self, unit: Unit, phase: Phase, heartbeat: WorkerHeartbeat | None, took_s: float, now_s: float
    ) -> str:
        """Why it is of no use. One that was told to end has its time from its actuator."""
        known = self.known.get(unit.model)
        if known is None or unit.stopping:
            return ""
        most_s = known.deployed.manifest.health.start_timeout_s
        # Who waits for room, or for an image, says nothing of the model; who is ready may not be heard yet.
        is_heard = now_s - self._hearing_s > _LIVE_S
        if phase is Phase.STARTING and took_s > most_s and is_heard and not unit.note:
            return f"is not ready {took_s:.0f} s after its start"
        if heartbeat is None:
            return ""
        silent_s = now_s - max(heartbeat.sent_at_s, self._hearing_s)
        return f"has not been heard for {silent_s:.0f} s" if silent_s > self._settings.lost_s else ""

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
            name
            for name, seen_s in self._seen_s.items()
            if now_s - max(seen_s, self._hearing_s) > _STALE_S and name not in living
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
        if value is not None:
            self.deploy(ModelDeployed.decode(value))
            return
        gone = self.known.pop(name, None)
        if gone is not None and not gone.deployed.is_leaving:
            # Whoever removed it did not know that it was deployed again.
            self.deploy(gone.deployed.model_copy(update={"retiring": True, "returning": True}))

    def deploy(self, deployed: ModelDeployed) -> None:
        """This version answers from now on."""
        name = deployed.name
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
            if took_s > 0:  # else clocks differ, and nobody knows how long
                known.started(took_s)
                self._took.append((now.model, took_s))
        known.hear(before, now)

    def _update_learned(self, key: str, value: bytes | None) -> None:
        if key.startswith(TRUSTED):
            self._update_trusted(key.removeprefix(TRUSTED), value)
        if not key.startswith(LEARNED):
            return
        model = key.removeprefix(LEARNED)
        if value is None:
            self._learned.pop(model, None)
            return
        learned = self._learned[model] = Learned.decode(value)
        known = self.known.get(model)
        if known is not None:
            known.remember(learned)

    def _update_trusted(self, model: str, value: bytes | None) -> None:
        if value is None:
            self._trusted.pop(model, None)
        else:
            self._trusted[model] = Trusted.decode(value).deployed


def _by_model(workers: Iterable[Worker]) -> defaultdict[str, list[Worker]]:
    found = defaultdict(list)
    for worker in workers:
        found[worker.model].append(worker)
    return found


def _wanted(known: Known) -> Wanted:
    """What is deployed, by how many workers."""
    return Wanted(known.deployed.version, known.allowed, known.reason)
