"""The table of states: complete, and monotonic."""

import pytest

from headrace.contracts import replies
from headrace.contracts.states import FINAL, TRANSITIONS, State, may_become


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_is_never_left(state: State) -> None:
    assert not any(may_become(state, other) for other in State)


@pytest.mark.parametrize("state", [State.QUEUED, State.IN_PROGRESS])
def test_every_end_can_be_reached(state: State) -> None:
    assert all(may_become(state, end) for end in FINAL)
    assert not may_become(state, state)


def test_every_end_has_a_type_on_the_wire() -> None:
    assert set(replies.TYPES) == FINAL
    assert replies.CHUNK_TYPE not in replies.TYPES.values()
