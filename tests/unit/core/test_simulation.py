"""Queue and workers in virtual time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cli.patterns import PATTERNS, jobs
from headrace.core.planning import Rules
from headrace.core.policies import Fixed, Keda, Oracle, Ours
from headrace.core.simulation import Job, Site, simulate
from headrace.core.sizing import Dials

SITE = Site(slots=4, cold_start_s=30.0)


class Scripted:
    """As many as the script says at each minute."""

    interval_s = 60.0
    reacts = False
    foresees = True
    stands = False

    def __init__(self, *numbers):
        self.numbers = numbers
        self.views = []

    def workers(self, view):
        self.views.append(view)
        return self.numbers[min(int(view.now_s // 60), len(self.numbers) - 1)]


def test_a_request_waits_for_a_worker_and_costs_are_from_the_order_on():
    found = simulate([Job(10.0, 1.0)], SITE, Scripted(1, 1, 0), 300.0)
    assert found.waits_s == [20.0]
    assert found.gpu_s == 120.0
    assert (found.starts, found.most) == (1, 1)


def test_slots_run_beside_one_another_and_others_wait():
    # Each takes four seconds in its slot.
    found = simulate([Job(40.0, 1.0)] * 6, SITE, Fixed(1), 300.0)
    assert found.waits_s == [0.0] * 4 + [4.0] * 2
    assert found.wait_s(0.5) == 0.0
    assert found.wait_s(0.95) == 4.0
    assert found.gpu_s == 300.0


def test_one_that_is_stopped_finishes_first_and_takes_nothing_new():
    found = simulate([Job(59.0, 10.0), Job(61.0, 1.0)], SITE, Scripted(1, 0, 1, 1), 400.0)
    # The first ends at 99, the worker with it; the second waits for the one that is ordered at 120.
    assert found.waits_s == [0.0, 89.0]
    assert found.gpu_s == 99.0 + 280.0


def test_one_that_starts_can_be_taken_back():
    found = simulate([], SITE, Scripted(1, 0), 60.0)
    assert found.gpu_s == 60.0
    slow = Site(slots=1, cold_start_s=300.0)
    found = simulate([Job(0.0, 1.0)], slow, Scripted(1, 0), 120.0)
    assert (found.gpu_s, found.waits_s) == (60.0, [])


def test_who_is_never_served_has_waited_all_the_same():
    found = simulate([Job(10.0, 1.0), Job(20.0, 1.0), Job(400.0, 1.0)], SITE, Fixed(0), 300.0)
    assert (found.waits_s, found.left_s) == ([], [290.0, 280.0])
    assert (found.wait_s(0.5), found.wait_s(1.0)) == (280.0, 290.0)


def test_a_fixed_number_was_there_before():
    assert simulate([Job(0.0, 1.0), Job(1.0, 1.0)], SITE, Fixed(1), 60.0).waits_s == [0.0, 0.0]


def test_a_fixed_number_costs_nothing_once_nothing_more_is_to_come():
    assert simulate([Job(40.0, 1.0)], SITE, Fixed(2, 120.0), 3600.0).gpu_s == 2 * 120.0
    # What is left over is done first: sixteen of 100 s, four at a time.
    assert simulate([Job(40.0, 25.0)] * 16, SITE, Fixed(1, 120.0), 3600.0).gpu_s == 480.0


def test_what_a_policy_sees():
    policy = Scripted(1, 1, 1)
    simulate([Job(10.0, 1.0), Job(58.0, 2.0)], SITE, policy, 120.0)
    first, second, third = policy.views
    assert (first.waiting, first.warm, first.arrived) == (0, 0, 0)
    assert (second.running, second.completed, second.warm, second.free) == (1, 1, 1, 3)
    assert second.started_s == [30.0]
    assert (second.busy_s, second.slot_s) == (4.0 + 2.0, 4.0)
    assert (third.busy_s, third.slot_s, third.started_s) == (12.0, 12.0, [])


def test_one_that_reacts_is_asked_within_a_second_of_what_happens():
    policy = Scripted(1, 1, 1)
    policy.reacts = True
    simulate([Job(10.3, 1.0), Job(10.4, 1.0), Job(70.0, 2.0)], SITE, policy, 120.0)
    # The first look, two requests, their worker, their ends; then the third comes, and ends.
    assert [view.now_s for view in policy.views] == [0, 11, 30, 34, 70, 78]


def every_policy(work):
    return [
        Ours(Rules(Dials(0, 8)), SITE.slots),
        Keda(10, 8),
        Oracle(work, SITE.cold_start_s, 30.0, 8),
        Fixed(2),
    ]


@settings(max_examples=30)
@given(st.sampled_from(sorted(PATTERNS)), st.floats(0.005, 0.2), st.integers(0, 5))
def test_everything_is_served_once_and_nothing_for_less_than_its_work(pattern, per_s, seed):
    work = jobs(PATTERNS[pattern](3600, per_s, seed), 2.0, seed)
    for policy in every_policy(work):
        found = simulate(work, SITE, policy, 3600 * 3)
        assert len(found.waits_s) == len(work)
        assert all(wait_s >= 0 for wait_s in found.waits_s)
        assert found.gpu_s >= sum(job.work_s for job in work)
        if not isinstance(policy, Fixed):
            assert not work or found.moments[-1].workers == 0


def test_ours_is_near_the_oracle_where_work_comes_steadily():
    work = jobs(PATTERNS["steady"](7200, 1.0, 1), 2.0, 1)
    ours = simulate(work, SITE, Ours(Rules(Dials(0, 20)), SITE.slots), 9000)
    oracle = simulate(work, SITE, Oracle(work, 30.0, 30.0, 20), 9000)
    keda = simulate(work, SITE, Keda(10, 20), 9000)
    assert ours.gpu_s < 1.25 * oracle.gpu_s
    assert ours.gpu_s < 1.5 * keda.gpu_s


@pytest.mark.parametrize("cold_start_s", [30.0, 300.0])
@pytest.mark.parametrize(
    ("pattern", "hours", "per_s"), [("steady", 4, 2.0), ("bursts", 6, 0.5), ("sparse", 24, 0.02)]
)
def test_ours_costs_less_than_keda_and_nobody_waits_longer(pattern, hours, per_s, cold_start_s):
    seconds = hours * 3600
    work = jobs(PATTERNS[pattern](seconds, per_s, 1), 1.0, 1)
    site = Site(16, cold_start_s)
    ours = simulate(work, site, Ours(Rules(Dials(0, 24)), 16, cold_start_s, 1.0), seconds + 1800)
    keda = simulate(work, site, Keda(10, 24), seconds + 1800)
    assert ours.gpu_s < 0.7 * keda.gpu_s
    assert ours.wait_s(0.95) <= 1.01 * keda.wait_s(0.95) + 0.5


def test_keda_goes_by_its_book():
    policy = Keda(threshold=10, most=20)
    found = simulate([Job(1.0, 5.0)] * 100, SITE, policy, 7200)
    workers = [(moment.at_s, moment.workers) for moment in found.moments]
    # Jumps to the poll after the arrival: one replica, then the HPA by four, then as many as there are.
    assert workers[:5] == [(0.0, 0), (15.0, 0), (30.0, 1), (45.0, 5), (60.0, 10)]
    last = max(at_s for at_s, number in workers if number)
    assert last > 30 + 300, "the cooldown"


def test_the_oracle_has_them_ready():
    work = [Job(1000.0, 1.0)] * 8
    found = simulate(work, SITE, Oracle(work, 30.0, 30.0, 8), 2000)
    assert found.starts == 1
    assert max(found.waits_s) <= 4.0
    assert found.gpu_s < 90
    near = [Job(1000.0, 1.0), Job(1020.0, 1.0), Job(1500.0, 1.0)]
    assert simulate(near, SITE, Oracle(near, 30.0, 5.0, 8), 2000).starts == 2


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_patterns_repeat_by_their_seed(pattern):
    make = PATTERNS[pattern]
    times = make(36_000, 0.1, 7)
    assert times == make(36_000, 0.1, 7) != make(36_000, 0.1, 8)
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < 36_000
    assert 0.03 < len(times) / 36_000 < 0.3
