"""Why a worker waits, and whether it does."""

import pytest

from headrace.scaler.actuators.ray.messages import Needs
from headrace.scaler.actuators.ray.notes import Room, may_start, why_waiting

NODE = {"CPU": 8.0, "GPU": 2.0, "memory": 1e9}
ONE = Needs(1, 1, {})


def test_what_is_taken_is_named():
    assert why_waiting(ONE, Room([NODE, NODE], {"CPU": 4.0})) == "waits for 1 GPU (0 of 4 free)"
    words = why_waiting(Needs(1, 4, {"tape": 1}), Room([NODE | {"tape": 1.0}], {"CPU": 2.5, "GPU": 2}))
    assert words == "waits for 4 CPU (2.5 of 8 free) and 1 tape (0 of 1 free)"


def test_what_no_node_has_is_named_though_all_together_have_it():
    words = why_waiting(Needs(4, 0, {}), Room([NODE, NODE], {"CPU": 16, "GPU": 4}))
    assert words == "no node of the Ray cluster has 4 GPU"


def test_a_fraction_is_a_number():
    assert why_waiting(Needs(0.5, 0, {}), Room([NODE], {"GPU": 0.25})) == "waits for 0.5 GPU (0.25 of 2 free)"


def test_who_has_all_lacks_nothing():
    assert why_waiting(ONE, Room([NODE], {"CPU": 8, "GPU": 2})) == ""
    assert why_waiting(Needs(0, 0, {}), Room([{}], {})) == ""


@pytest.mark.parametrize(
    ("placed", "starting"),
    [(0, [True, True, True, True, False]), (3, [True, False]), (4, [False])],
)
def test_as_many_may_start_as_there_are_gpus_that_are_taken_by_none_who_answers(placed, starting):
    room = Room([NODE, NODE], {"CPU": 16.0 - 4, "GPU": 0.0})
    found = [may_start(Needs(1, 0, {}), before, [ONE] * placed, room) for before in range(len(starting))]
    assert found == starting


def test_nobody_starts_with_what_is_still_free():
    assert not may_start(ONE, 0, [], Room([NODE, NODE], {"CPU": 16.0, "GPU": 4.0}))


def test_each_resource_counts():
    room = Room([NODE | {"tape": 1.0}], {"CPU": 0.0, "GPU": 0.0, "tape": 1.0})
    assert may_start(ONE, 0, [], room)
    assert not may_start(Needs(1, 1, {"tape": 1}), 0, [], room)


def test_tenths_add_up():
    room = Room([NODE], {"CPU": 8.0, "GPU": 2.0 - 0.1 - 0.1 - 0.1})
    assert may_start(Needs(0.1, 0, {}), 2, [], room)
