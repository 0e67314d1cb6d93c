"""From what was observed to a number of workers."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.core.pacing import Pace
from headrace.core.planning import Crew, Load, Rules, Share, even, plan, shared
from headrace.core.sizing import Dials, Due


def rules(least=0, most=10, partitions=None, drain_target_s=30.0):
    return Rules(Dials(least, most, drain_target_s=drain_target_s), partitions=partitions)


def run(load, crew=None, given_rules=None, target=0):
    return plan(load, crew or Crew(work_s=1.0, cold_start_s=10.0), given_rules or rules(), Pace(target), 0.0)


def test_as_many_as_the_work_needs():
    # 0.8 * (30 - 10) = 16 seconds of each that starts.
    found = run(Load(waiting=100))
    assert (found.needed, found.pace.target) == (7, 7)
    assert "100.0 s of work" in found.reason


def test_one_worker_until_it_is_known_what_a_request_costs():
    found = run(Load(waiting=100), Crew(cold_start_s=10.0))
    assert found.needed == 1
    assert "not known" in found.reason
    assert run(Load(), Crew()).needed == 0
    assert run(Load(waiting=1), Crew(), rules(least=3)).needed == 3
    none = run(Load(waiting=1), Crew(), rules(most=0))
    assert (none.needed, none.pace.target) == (0, 0)
    assert none.reason.startswith("at most 0")


@pytest.mark.parametrize("work_s", [0.0, 1e-12, 3e-5])
def test_whatever_waits_has_a_worker_however_little_work_it_is(work_s):
    """A small model with a drain target of a day; a request that says `max_tokens: 0`."""
    crew = Crew(work_s=work_s, cold_start_s=10.0)
    found = run(Load(waiting=1), crew, rules(drain_target_s=86_400.0))
    assert (found.needed, found.pace.target) == (1, 1)
    assert run(Load(waiting=1), crew, rules(most=0)).needed == 0
    assert run(Load(), crew).needed == 0


def test_no_more_workers_than_partitions_or_than_are_allowed():
    assert run(Load(waiting=1000), given_rules=rules(partitions=4)).needed == 4
    assert run(Load(waiting=1000)).needed == 10
    assert run(Load(waiting=1000), given_rules=rules(most=0)).needed == 0


@pytest.mark.parametrize(
    ("workers", "partitions", "most", "number"),
    [
        (8, 12, 12, 12),
        (5, 12, 12, 6),
        (6, 12, 12, 6),
        (1, 12, 12, 1),
        (8, 12, 10, 6),
        (7, 60, 60, 7),
        (3, 4, 3, 2),
        (5, 24, 24, 5),
        (7, 24, 24, 6),
        (9, 24, 24, 8),
        (10, 24, 24, 12),
        (14, 24, 24, 12),
        (16, 24, 24, 24),
        (16, 24, 20, 12),
    ],
)
def test_numbers_that_share_partitions_evenly(workers, partitions, most, number):
    assert even(workers, partitions, Dials(max_workers=most)) == number


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.floats(0.1, 1.0))
def test_an_even_number_is_done_in_time_and_no_smaller_one_is_as_good(workers, partitions, most, utilization):
    workers, most = min(workers, partitions, most), min(most, partitions)
    found = even(workers, partitions, Dials(0, most, utilization))
    assert 1 <= found <= most
    longest = math.ceil(partitions / found)
    # As a part of what all the workers could do within the horizon.
    planned = longest * workers * utilization / partitions
    assert planned <= max(0.95, utilization) + 1e-9 or longest == math.ceil(partitions / most)
    assert found == 1 or math.ceil(partitions / (found - 1)) > longest


def test_the_number_is_rounded_to_an_even_share():
    found = run(Load(waiting=100), given_rules=rules(partitions=12))
    assert found.needed == 6, "of the seven that are needed ten are allowed, and six are as good as ten"
    assert "7 would share 12 partitions unevenly" in found.reason
    assert run(Load(waiting=100), given_rules=rules(most=12, partitions=12)).needed == 6
    assert run(Load(waiting=120), given_rules=rules(most=12, partitions=12)).needed == 12
    assert run(Load(waiting=100), given_rules=rules(least=8, partitions=12)).needed == 8


def test_an_even_share_is_no_reason_for_workers_that_have_nothing_to_do():
    wide = rules(most=12, partitions=12)
    crew = Crew(warm=8, work_s=100.0, cold_start_s=10.0)
    assert run(Load(running=8), crew, wide, target=9).needed == 8, "what runs moves to nobody"
    assert run(Load(waiting=8), crew._replace(warm=0), wide).needed == 8
    found = run(Load(waiting=1000), crew._replace(warm=5, work_s=1.0, enough=5), wide, target=5)
    assert found.needed == 5, "more than these have brought no more"


def test_a_request_that_runs_is_no_work_for_another_worker():
    crew = Crew(warm=1, work_s=100.0, cold_start_s=1.0)
    assert run(Load(running=1), crew, target=1).needed == 1
    found = run(Load(waiting=2, running=1), crew, target=1)
    assert found.needed == 3
    assert "no work for more" in found.reason


def test_what_runs_needs_the_workers_that_it_runs_on():
    crew = Crew(warm=4, free=8, work_s=1.0, cold_start_s=10.0)
    found = run(Load(running=32), crew, target=4)
    assert found.needed == 4
    assert "32 running need 4" in found.reason
    assert run(Load(running=5), crew._replace(free=35), target=4).needed == 1


def test_what_a_ready_worker_can_begin_at_once_is_no_work_for_another():
    crew = Crew(warm=1, free=4, work_s=100.0, cold_start_s=1.0)
    assert run(Load(waiting=4), crew, target=1).needed == 1
    assert run(Load(waiting=5), crew, target=1).needed == 2


def test_those_that_start_are_counted_until_they_take_too_long():
    load = Load(waiting=100)
    crew = Crew(starting_s=[0.0] * 7, work_s=1.0, cold_start_s=10.0)
    assert run(load, crew, target=7).needed == 7
    late = Crew(starting_s=[20.1] + [0.0] * 6, work_s=1.0, cold_start_s=10.0)
    found = run(load, late, target=7)
    assert found.needed == 8
    assert found.reason.startswith("1 of those that start are late")
    assert run(load, late._replace(is_guess=True), target=7).needed == 7, "nobody knows how long one takes"
    assert run(load, late, given_rules=rules(most=7), target=7).needed == 7


def test_if_those_that_follow_are_late_too_the_next_takes_longer_to_follow():
    load = Load(waiting=1)

    def needed(*starting_s, warm=0):
        crew = Crew(warm, starting_s=starting_s, work_s=1.0, cold_start_s=10.0)
        return run(load, crew, target=1).needed

    assert needed(20.0) == 1
    assert needed(20.1) == needed(40.2, 20.1) == needed(60.0, 39.9) == 2
    assert needed(60.2, 40.1) == needed(100.0, 80.0, 40.0) == 3
    assert needed(60.2, 40.1, warm=1) == 1, "it is there"


def test_what_is_due_needs_workers_that_the_drain_target_does_not():
    slow = rules(drain_target_s=1000.0)
    assert run(Load(waiting=100), given_rules=slow).needed == 1
    found = run(Load(waiting=100, due=[Due(35.0, 100.0)]), given_rules=slow)
    assert found.needed == 5, "100 / 0.8 in the 25 seconds that are left of 35"
    assert "100.0 s of work are due in 35 s" in found.reason


def test_what_comes_back_later_is_not_idleness():
    idle = Load(idle_s=1e6)
    assert run(idle, target=1).pace.target == 0
    assert run(idle._replace(retrying=1), target=1).pace.target == 1


def test_what_all_may_have_is_shared():
    shares = {"a": Share(1, 9), "b": Share(0, 2), "c": Share(0, 0)}
    assert shared(shares, 100) == {"a": 9, "b": 2, "c": 0}
    assert shared(shares, 4) == {"a": 2, "b": 2, "c": 0}
    assert shared(shares, 2) == {"a": 1, "b": 1, "c": 0}
    assert shared(shares, 0) == {"a": 1, "b": 0, "c": 0}


def test_who_can_wait_comes_last():
    shares = {"a": Share(0, 2, can_wait=True), "b": Share(0, 3)}
    assert shared(shares, 3) == {"a": 0, "b": 3}
    assert shared(shares, 4) == {"a": 1, "b": 3}
    assert shared({"a": Share(1, 2, can_wait=True), "b": Share(0, 3)}, 1) == {"a": 1, "b": 0}


def test_those_that_have_none_come_in_their_turn():
    shares = {"a": Share(0, 2, turn_s=5.0), "b": Share(0, 2, turn_s=4.0), "c": Share(0, 2, turn_s=9.0)}
    assert shared(shares, 1) == {"a": 0, "b": 1, "c": 0}
    assert shared(shares, 2) == {"a": 1, "b": 1, "c": 0}
    assert shared(shares, 4) == {"a": 2, "b": 1, "c": 1}, "the first of all before the second of any"


def test_gpus_are_shared_beside_workers():
    shares = {"a": Share(0, 9, 4), "b": Share(0, 9, 1), "c": Share(0, 9)}
    assert shared(shares, None, 8) == {"a": 1, "b": 4, "c": 9}
    assert shared(shares, 6, 8) == {"a": 1, "b": 3, "c": 2}
    assert shared(shares, None, 3) == {"a": 0, "b": 3, "c": 9}
    assert shared({"a": Share(2, 9, 4), "b": Share(0, 1, 1)}, None, 8) == {"a": 2, "b": 0}


def test_one_that_needs_more_gpus_than_there_are_takes_none_from_others():
    assert shared({"big": Share(1, 1, 16), "small": Share(0, 2, 4)}, None, 8) == {"big": 0, "small": 2}
    both = {"a": Share(1, 1, 6), "b": Share(1, 1, 6, has_some=True), "small": Share(0, 4, 1)}
    assert shared(both, None, 8) == {"a": 0, "b": 1, "small": 2}, "and who is there stays"


def test_nobody_begins_on_gpus_that_one_before_it_waits_for():
    shares = {"a": Share(0, 1, 2, turn_s=-math.inf, has_some=True), "b": Share(0, 1, 4, turn_s=1.0)}
    new, old = Share(0, 1, 1, turn_s=2.0), Share(0, 1, 1, turn_s=2.0, has_some=True)
    assert shared(shares | {"c": new}, None, 4) == {"a": 1, "b": 0, "c": 0}
    assert shared(shares | {"c": old}, None, 4) == {"a": 1, "b": 0, "c": 1}, "who is there stays meanwhile"
    assert shared(shares | {"c": Share(0, 1)}, None, 4)["c"] == 1, "it takes none"
    assert shared(shares | {"c": new}, None, 3)["c"] == 1, "as many there never are"


@given(
    st.dictionaries(
        st.text("abc", max_size=3), st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 4))
    ),
    st.integers(0, 60),
)
def test_there_are_never_more_gpus_than_allowed_and_none_that_somebody_could_use(wanted, most):
    shares = {
        name: Share(least, least + more, gpus, has_some=True) for name, (least, more, gpus) in wanted.items()
    }
    found = shared(shares, None, most)
    left = most - sum(found[name] * share.gpus for name, share in shares.items())
    assert left >= 0
    assert not [n for n, share in shares.items() if found[n] < share.wanted and share.gpus <= left]


@given(
    st.dictionaries(st.text("abc", max_size=3), st.tuples(st.integers(0, 3), st.integers(0, 9))),
    st.integers(0, 30),
)
def test_nobody_gets_more_than_wanted_and_nothing_is_left_over(wanted, most):
    shares = {name: Share(least, max(least, want)) for name, (least, want) in wanted.items()}
    found = shared(shares, most)
    assert all(shares[name].least <= found[name] <= shares[name].wanted for name in shares)
    least = sum(share.least for share in shares.values())
    assert sum(found.values()) == max(least, min(most, sum(share.wanted for share in shares.values())))


@example(Load(due=[Due(5e-324, 1.0)]), Crew(work_s=1.0, cold_start_s=1.0), 0)
@given(
    st.builds(
        Load,
        st.integers(0, 5000),
        st.integers(0, 50),
        st.integers(0, 5),
        st.floats(0, 100),
        st.floats(0, 900),
        st.lists(st.builds(Due, st.floats(0, 1e5), st.floats(0, 1e5)), max_size=3),
    ),
    st.builds(
        Crew,
        st.integers(0, 12),
        st.integers(0, 100),
        st.lists(st.floats(0, 1000), max_size=5),
        st.none() | st.floats(0.001, 100),
        st.floats(0.1, 600),
    ),
    st.integers(0, 12),
)
def test_any_load_has_a_number_within_the_limits(load, crew, target):
    given_rules = rules(least=1, most=12)
    found = plan(load, crew, given_rules, Pace(target), 0.0)
    assert 1 <= found.needed <= 12
    assert 1 <= found.pace.target <= 12
    assert found.reason


def test_more_that_have_brought_nothing_are_not_followed_by_still_more():
    crew = Crew(warm=4, starting_s=[1.0], work_s=1.0, cold_start_s=10.0, enough=2)
    found = run(Load(waiting=1000), crew, target=5)
    assert (found.needed, found.pace.target) == (5, 5)
    assert "more than 2 have brought no more" in found.reason
    assert run(Load(waiting=1000), crew, rules(least=7), target=7).needed == 7
    assert run(Load(waiting=1000), crew._replace(enough=8), target=5).needed == 8


def test_workers_stay_as_long_as_pauses_were():
    load = Load(idle_s=100.0, pauses_s=(120.0,) * 4)
    crew = Crew(warm=1, work_s=1.0, cold_start_s=80.0)
    assert run(load, crew, target=1).pace.target == 1
    assert run(load._replace(idle_s=133.0), crew, target=1).pace.target == 0
    assert run(load._replace(pauses_s=()), crew, target=1).pace.target == 0
