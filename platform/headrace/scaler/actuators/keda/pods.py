"""Workers that others start: what their heartbeats tell of them, beside what was asked for. No IO."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Final, NamedTuple

from headrace.contracts.events import WorkerHeartbeat, WorkerState
from headrace.scaler.actuator import Cause, Exit, Orders, Unit

_SILENT_S: Final = 10.0
"""Five beats without a word: it is dead."""
_GAP_S: Final = 5.0
"""Where nobody listened for so long, silence says nothing."""


class _Heard(NamedTuple):
    """A worker's last word, when it was heard by our own clock, and when the worker was asked for."""

    beat: WorkerHeartbeat
    at_s: float
    asked_s: float


class Pods:
    """Who is there, and who was asked for but has not been heard yet.

    Whoever was asked for counts as a unit that starts, lest more be asked for while it loads. Where more are
    heard than there are to be, the rest count as stopping: somebody else chooses which of them really go.
    """

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}
        self._exits: dict[str, Exit] = {}
        self._told: set[str] = set()
        self._listened_s = -math.inf
        self._targets: dict[str, int] = {}
        self._versions: dict[str, str] = {}
        self._ended: dict[str, bool] = {}  # whether by force
        self._promised: dict[str, list[float]] = {}

    def hear(self, beats: Mapping[str, WorkerHeartbeat], now_s: float) -> None:
        """The last words of all workers, by id."""
        is_new = not 0 <= now_s - self._listened_s <= _GAP_S  # or the clock has leapt
        self._listened_s = now_s
        found = {}
        for worker_id, beat in beats.items():
            before = self._heard.get(worker_id)
            if before is None:
                # Whoever was there before we listened may be dead by now.
                at_s = min(now_s, beat.sent_at_s) if is_new else now_s
                found[worker_id] = _Heard(beat, at_s, self._asked_s(beat))
            else:
                is_word = is_new or beat.sent_at_s != before.beat.sent_at_s
                found[worker_id] = _Heard(beat, now_s if is_word else before.at_s, before.asked_s)
        left = {name: each for name, each in self._heard.items() if name not in found}
        self._heard = found
        self._note_exits(left, now_s)

    def order(self, orders: Orders) -> None:
        """What is asked for from now on."""
        self._call_off(orders)
        self._targets = dict(orders.targets)
        # Which version is deployed is not told; whoever is to start has it.
        known = {model: version for model, version in self._versions.items() if model in self._targets}
        self._versions = known | {new.model: new.version for new in orders.starts}
        ended = self._ended | {ending.unit_id: ending.force for ending in orders.ends}
        there = {each.beat.in_unit for each in self._heard.values()}
        self._ended = {unit_id: force for unit_id, force in ended.items() if unit_id in there}
        self._promised = {model: self._promised.get(model, []) for model in self._targets}

    def forget(self) -> None:
        """Nothing is asked for any more."""
        self.order(Orders(0))

    def units(self, now_s: float) -> dict[str, Unit]:
        """Those heard that have not ended, and those promised."""
        heard = [self._unit(each) for each in self._latest() if _ending(each, now_s) is None]
        found = {unit.id: unit for unit in heard}
        for model, target in self._targets.items():
            version = self._versions.get(model)
            mine = [
                unit
                for unit in heard
                if unit.model == model and not unit.stopping and unit.version == (version or unit.version)
            ]
            mine.sort(key=lambda unit: (unit.id in self._ended, unit.started_at_s))
            found |= {unit.id: replace(unit, stopping=True) for unit in mine[target:]}
            promised = self._keep_promises(model, target - len(mine), now_s)
            if version is not None:
                found |= {
                    name: Unit(name, model, version, at_s)
                    for name, at_s in zip(_names(model), promised, strict=False)
                }
        return found

    def exits(self) -> list[Exit]:
        """Workers that have ended, each once."""
        exits, self._exits = list(self._exits.values()), {}
        return exits

    def _call_off(self, orders: Orders) -> None:
        """Those that are not awaited any more; or anew, where they have not come in time."""
        ends = {ending.unit_id: ending.force for ending in orders.ends}
        for model, promised in self._promised.items():
            named = list(zip(_names(model), promised, strict=False))
            self._promised[model] = [at_s for name, at_s in named if name not in ends]
            is_told = any(not ends.get(name, True) for name, _ in named)
            if is_told and orders.targets.get(model, 0) >= self._targets[model]:
                self._versions.pop(model, None)  # as many as before, so of another version

    def _note_exits(self, left: Mapping[str, _Heard], now_s: float) -> None:
        """Who has ended; left: those whose names are gone, as workers take them off at their end."""
        latest = {each.beat.id for each in self._latest()}
        endings = {name: (each, (Cause.ASKED, "has ended")) for name, each in left.items()}
        for name, each in self._heard.items():
            ending = _ending(each, now_s)
            if ending is None and name not in latest:
                ending = (Cause.KILLED, "has ended: another works in its pod")
            if ending is not None:
                endings[name] = (each, ending)
        for name, (each, ending) in endings.items():
            if name not in self._told:
                # Whoever began later in the same pod is another.
                self._exits[name] = Exit(self._unit(each), *ending, at_s=each.beat.started_at_s)
                self._ended.pop(each.beat.in_unit, None)
        self._told = set(endings)

    def _latest(self) -> Iterable[_Heard]:
        """The last worker of each pod."""
        found: dict[str, _Heard] = {}
        for each in self._heard.values():
            before = found.get(each.beat.in_unit)
            if before is None or before.beat.started_at_s <= each.beat.started_at_s:
                found[each.beat.in_unit] = each
        return found.values()

    def _unit(self, heard: _Heard) -> Unit:
        beat = heard.beat
        is_old = beat.version != self._versions.get(beat.model, beat.version)
        # Whoever was too slow, and cannot be ended by us, is of no use until it is ready.
        is_slow = beat.state is WorkerState.STARTING and self._ended.get(beat.in_unit, False)
        stopping = beat.state is WorkerState.DRAINING or is_slow or (is_old and beat.in_unit in self._ended)
        return Unit(beat.in_unit, beat.model, beat.version, heard.asked_s, stopping)

    def _asked_s(self, beat: WorkerHeartbeat) -> float:
        """When the worker was asked for: who comes is the one that was asked for first."""
        promised = self._promised.get(beat.model)
        if promised and beat.version == self._versions.get(beat.model):
            return min(promised.pop(0), beat.started_at_s)
        return beat.started_at_s

    def _keep_promises(self, model: str, missing: int, now_s: float) -> Sequence[float]:
        """When each of those that are missing was asked for."""
        promised = self._promised[model]
        del promised[max(0, missing) :]
        promised += [now_s] * (missing - len(promised))
        return promised


def _names(model: str) -> Iterable[str]:
    """Of units that were asked for and have not been heard."""
    return (f"{model}#{number}" for number in count(1))


def _ending(heard: _Heard, now_s: float) -> tuple[Cause, str] | None:
    """Why the worker ended, if it has."""
    if heard.beat.state is WorkerState.STOPPED:
        return Cause.ASKED, "has ended"
    if heard.beat.state is WorkerState.FAILED:
        return Cause.FAILED, f"has failed: {heard.beat.reason}"
    if now_s - heard.at_s > _SILENT_S:
        return Cause.KILLED, f"has not been heard for {_SILENT_S:.0f} s"
    return None
