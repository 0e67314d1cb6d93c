"""When a version is trusted, and when it makes place for the one before it."""

import pytest

from headrace.core.rollout import is_over, stable, unfit
from headrace.core.scaling import Failures, Phase, Worker


def worker(name, version="v2", phase=Phase.READY):
    return Worker(name, "chat", version, phase, started_at_s=0.0)


@pytest.mark.parametrize(
    ("workers", "now_s", "is_stable"),
    [
        ([worker("a")], 109.0, False),
        ([worker("a")], 110.0, True),
        ([worker("a", phase=Phase.DRAINING)], 110.0, False),
        ([worker("a", version="v1")], 110.0, False),
        ([worker("unheard")], 110.0, False),
        ([worker("unheard"), worker("a")], 110.0, True),
    ],
)
def test_a_version_is_stable_when_one_of_its_workers_was_ready_for_a_while(workers, now_s, is_stable):
    assert stable(workers, "v2", {"a": 100.0}, now_s) == ([100.0] if is_stable else [])


@pytest.mark.parametrize(
    ("stable_s", "wanted", "over"),
    [
        ([], 0, False),
        ([10.0], 2, False),
        ([10.0, 60.0], 3, True),
        ([10.0, 20.0], 2, True),
    ],
    ids=["nobody is well", "another fails beside it", "one that came later", "all that are wanted"],
)
def test_who_was_well_before_says_nothing_of_those_that_fail_beside_it(stable_s, wanted, over):
    assert is_over(Failures(2, 50.0), stable_s, wanted) is over


def test_a_version_that_fails_makes_place_for_the_trusted_one():
    failures = Failures(3, 0.0, "ended with exit code 1")
    assert unfit("v2", "v1", failures, 3) == "3 workers in a row failed, at last: ended with exit code 1"
    assert unfit("v2", "v1", Failures(1, 0.0, "no file"), 1) == "its worker failed, at last: no file"


@pytest.mark.parametrize(
    ("trusted", "count"), [(None, 9), ("v2", 9), ("v1", 2)], ids=["no other", "itself", "too few"]
)
def test_a_version_stays_when_there_is_no_better_or_it_failed_too_seldom(trusted, count):
    assert unfit("v2", trusted, Failures(count), 3) is None
