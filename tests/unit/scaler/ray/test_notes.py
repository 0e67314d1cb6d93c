"""Why a worker waits."""

from headrace.scaler.actuators.ray.messages import Needs
from headrace.scaler.actuators.ray.notes import why_waiting

NODE = {"CPU": 8.0, "GPU": 2.0, "memory": 1e9}


def test_what_is_taken_is_named():
    words = why_waiting(Needs(1, 1, {}), [NODE, NODE], {"CPU": 4.0})
    assert words == "waits for 1 GPU (0 of 4 free)"
    words = why_waiting(Needs(1, 4, {"tape": 1}), [NODE | {"tape": 1.0}], {"CPU": 2.5, "GPU": 2})
    assert words == "waits for 4 CPU (2.5 of 8 free) and 1 tape (0 of 1 free)"


def test_what_no_node_has_is_named_though_all_together_have_it():
    words = why_waiting(Needs(4, 0, {}), [NODE, NODE], {"CPU": 16, "GPU": 4})
    assert words == "no node of the Ray cluster has 4 GPU"


def test_a_fraction_is_a_number():
    assert why_waiting(Needs(0.5, 0, {}), [NODE], {"GPU": 0.25}) == "waits for 0.5 GPU (0.25 of 2 free)"


def test_while_its_process_starts_nothing_is_lacking():
    assert why_waiting(Needs(1, 1, {}), [NODE], {"CPU": 8, "GPU": 2}) == ""
    assert why_waiting(Needs(0, 0, {}), [{}], {}) == ""
