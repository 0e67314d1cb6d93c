"""What the scaler knows of the ledger's book: a copy, its age, and which ends were told."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Cause, Exit, Unit
from headrace.scaler.actuators.ray.messages import Seen, State

_log = logging.getLogger(__name__)

_SILENCE_S: Final = 10.0
"""The ledger gives a sign of life every two seconds."""


class Mirror:
    """What the ledger said last.

    decided: which state it was when units were last asked for: what is decided rests on it.
    why_unknown: empty while there is a connection.
    """

    def __init__(self) -> None:
        self._state = State(Seen("", 0), (), ())
        self._heard_s = -_SILENCE_S
        self._missed: list[Exit] = []
        self._given = 0
        self.decided = self._state.seen
        self.why_unknown = "Ray has said nothing yet"

    def units(self) -> Mapping[str, Unit]:
        """By id.

        Raises:
            Unavailable: what was heard is too old.
        """
        if self.why_unknown:
            raise Unavailable(self.why_unknown)
        silent_s = time.monotonic() - self._heard_s
        if silent_s > _SILENCE_S:
            raise Unavailable(f"The ledger on Ray has said nothing for {silent_s:.0f} s")
        self.decided = self._state.seen
        return {unit.id: unit for unit in self._state.units}

    def exits(self) -> tuple[int, list[Exit]]:
        """Those that were not given yet; and up to which number they were, at the call before this one."""
        before = self._given
        found = [ended.exit for ended in self._state.ends if ended.number > before]
        self._given = max((ended.number for ended in self._state.ends), default=before)
        found, self._missed = [*self._missed, *found], []
        return (before if any(ended.number <= before for ended in self._state.ends) else 0), found

    def reflect(self, state: State) -> bool:
        """Take in what the ledger says; whether it is news.

        An answer to an order may overtake a state from before it, in which what was ordered is missing.
        """
        before = self._state
        if before.seen.ledger == state.seen.ledger and before.seen.version > state.seen.version:
            state = before
        self._state = state
        self._heard_s, was_unknown, self.why_unknown = time.monotonic(), bool(self.why_unknown), ""
        _tell_notes(before.units, state.units)
        if before.seen.ledger != state.seen.ledger:
            self._begin_anew(before, state)
        return was_unknown or before.seen != state.seen

    def _begin_anew(self, before: State, state: State) -> None:
        """Another ledger does not know what the one before it has seen end, and what ended unseen."""
        known = {unit.id for unit in state.units} | {ended.exit.unit.id for ended in state.ends}
        self._missed += [ended.exit for ended in before.ends if ended.number > self._given]
        reason = "was gone when the ledger on Ray was started anew"
        lost = (unit for unit in before.units if unit.id not in known)
        self._missed += [Exit(unit, Cause.KILLED, reason, time.time()) for unit in lost]
        self._given = 0

    def lose(self, why: str) -> None:
        """Nothing is known until the next state."""
        self.why_unknown = why


def _tell_notes(before: Sequence[Unit], now: Sequence[Unit]) -> None:
    notes = {unit.id: unit.note for unit in before}
    for unit in now:
        # That numbers of what is free have changed is no news.
        if unit.note and not notes.get(unit.id):
            _log.warning("worker %s of %s cannot start yet: %s", unit.id, unit.model, unit.note)
