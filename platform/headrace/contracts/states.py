"""The life of a request, as a table.

queued -> in_progress -> completed | incomplete | failed | cancelled | expired

Monotonic: a final state is never left, so the first final result wins whatever arrives later.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a request stands."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    """Finished with a usable answer that was cut short, for example by `max_tokens`."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


FINAL: Final = frozenset({State.COMPLETED, State.INCOMPLETE, State.FAILED, State.CANCELLED, State.EXPIRED})

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    # A redelivered request may go back to the queue; a queued one may end without ever starting.
    State.QUEUED: frozenset({State.IN_PROGRESS}) | FINAL,
    State.IN_PROGRESS: frozenset({State.QUEUED}) | FINAL,
    **{state: frozenset() for state in FINAL},
}


def may_become(current: State, wanted: State) -> bool:
    """Whether the table allows the step. Staying is not a step."""
    return wanted in TRANSITIONS[current]
