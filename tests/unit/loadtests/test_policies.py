"""The table of the policies."""

import pytest
from loadtests.policies import Case, Shape, row

from headrace.core.simulation import Outcome

CASE = Case(Shape("steady", 0.2, 0.5), 30.0, 16, 2)


def outcome(hours, p95_s):
    return Outcome(gpu_s=hours * 3600, waits_s=[0.0, p95_s])


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (outcome(7.0, 50.9), "met"),
        (outcome(7.1, 50.0), "missed: hours"),
        (outcome(5.0, 52.0), "missed: wait"),
        (outcome(11.6, 99.0), "missed: hours, wait, oracle"),
    ],
)
def test_a_row_says_which_goals_were_met(ours, verdict):
    others = {name: outcome(10.0, 50.0) for name in ("keda 10", "keda 16", "keda 32", "oracle")}
    assert row(CASE, {"headrace": ours, **others}).endswith(verdict)


def test_a_case_runs_every_policy_with_all_seeds():
    found = CASE.outcomes()
    assert set(found) == {"headrace", "oracle", "keda 10", "keda 16", "keda 32"}
    requests = sum(len(CASE.shape.jobs(seed)) for seed in (1, 2))
    assert {len(each.waits_s) for each in found.values()} == {requests}
