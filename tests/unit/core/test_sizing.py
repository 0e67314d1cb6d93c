"""How many workers the work at hand needs."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.core.sizing import Demand, Dials, Due, Size, Supply, size

MANY = Dials(max_workers=10_000)

seconds = st.floats(0, 1e5)
demands = st.builds(
    Demand,
    work_s=seconds,
    arriving=st.floats(0, 100),
    due=st.lists(st.builds(Due, in_s=st.floats(1, 1e4), work_s=seconds), max_size=3),
)
supplies = st.builds(
    Supply,
    warm=st.integers(0, 50),
    starting_s=st.lists(st.floats(0, 600), max_size=10),
    cold_start_s=st.floats(0, 600),
)


def number(demand: Demand, supply: Supply, dials: Dials = MANY) -> int:
    return size(demand, supply, dials).workers


def test_nothing_to_do_needs_nobody():
    assert size(Demand(0.0), Supply(warm=3), MANY).workers == 0


def test_a_backlog_is_gone_within_the_target():
    # 30 s, four fifths of which are planned with: 24 s of each worker.
    assert [number(Demand(work_s), Supply(0)) for work_s in (0.1, 24, 24.1, 240)] == [1, 1, 2, 10]


def test_what_arrives_meanwhile_counts():
    assert number(Demand(0.0, arriving=4.0), Supply(5)) == 5
    assert number(Demand(24.0, arriving=4.0), Supply(6)) == 6


def test_a_new_worker_gives_only_what_its_start_leaves():
    # A start, and then the drain target again: 24 s as planned.
    supply = Supply(0, cold_start_s=60)
    assert [number(Demand(work_s), supply) for work_s in (24, 24.1, 240)] == [1, 2, 10]


def test_those_that_start_are_not_started_again():
    supply = Supply(0, starting_s=(10, 20, 50), cold_start_s=60)
    # Until they have worked for 30 s: 80 + 70 + 40 s, of which 152 are planned with.
    assert [number(Demand(work_s), supply) for work_s in (24, 152, 153)] == [1, 3, 4]


def test_those_that_start_stay_needed_as_they_come_nearer():
    supply = Supply(0, starting_s=(10,) * 5, cold_start_s=60)
    assert number(Demand(24.0 * 5), supply) == 5
    assert number(Demand(24.0 * 2), supply) == 2
    assert number(Demand(24.0 * 9), supply) == 5


def test_the_time_by_which_those_that_start_are_done_does_not_recede():
    # In 400 s the one that is warm could do it alone, but it was to be done in 200 s from now.
    assert number(Demand(300.0), Supply(1, starting_s=(100,) * 2, cold_start_s=300)) == 3
    assert number(Demand(150.0), Supply(1, starting_s=(100,) * 2, cold_start_s=300)) == 1
    assert number(Demand(300.0), Supply(1, cold_start_s=300)) == 1


@pytest.mark.parametrize(
    ("cold_start_s", "ahead_s"), [(0, 30), (2, 30), (15, 30), (20, 40), (30, 60), (60, 90), (300, 400)]
)
def test_how_far_is_planned_ahead(cold_start_s: float, ahead_s: float):
    assert MANY.horizon_s(cold_start_s) == ahead_s


def test_what_is_gone_before_a_new_worker_is_warm_starts_none():
    supply = Supply(warm=2, cold_start_s=300)
    found = size(Demand(work_s=300, arriving=0.6), supply, MANY)
    assert found == Size(2, "300.0 s of work and 0.60 s/s arriving, for 400 s")
    # What comes takes its share of them: 1.6 - 0.6 are left.
    assert number(Demand(work_s=401, arriving=0.6), supply) > 2
    assert number(Demand(work_s=300, arriving=1.7), supply) > 2


def test_a_deadline_needs_more_than_the_backlog():
    due = Demand(100.0, due=[Due(in_s=10, work_s=90)])
    assert size(due, Supply(0), MANY) == Size(12, "90.0 s of work are due in 10 s")


def test_a_deadline_that_no_new_worker_can_meet_starts_none():
    due = Demand(1.0, due=[Due(in_s=10, work_s=1.0)])
    assert number(due, Supply(1, cold_start_s=10)) == 1


def test_those_that_start_for_a_deadline_stay_needed_when_it_is_near():
    due = Demand(1.0, due=[Due(in_s=50, work_s=160)])
    assert number(due, Supply(1, starting_s=(10,) * 4, cold_start_s=60)) == 5
    assert number(Demand(1.0, due=[Due(in_s=0, work_s=160)]), Supply(5)) == 1


@pytest.mark.parametrize(
    ("work_s", "utilization", "cold_start_s"),
    [(1e309, 1.0, 30.0), (1e300, 1e-300, 0.0), (1e300, 1e-300, 1e9)],
)
def test_absurd_numbers_are_only_many_workers(work_s: float, utilization: float, cold_start_s: float):
    dials = Dials(max_workers=3, utilization=utilization)
    assert number(Demand(work_s), Supply(1, [1.0], cold_start_s), dials) in (2, 3)


def test_the_dials_have_the_last_word():
    assert size(Demand(1e6), Supply(0), Dials(max_workers=3)).workers == 3
    assert "at most 3" in size(Demand(1e6), Supply(0), Dials(max_workers=3)).reason
    assert size(Demand(0.0), Supply(0), Dials(min_workers=2, max_workers=3)).workers == 2


@given(demands, supplies, st.floats(0, 1e4))
def test_more_work_never_needs_fewer(demand: Demand, supply: Supply, more_s: float):
    assert number(demand._replace(work_s=demand.work_s + more_s), supply) >= number(demand, supply)


@given(demands, supplies, st.floats(0, 10))
def test_more_arrivals_never_need_fewer(demand: Demand, supply: Supply, more: float):
    assert number(demand._replace(arriving=demand.arriving + more), supply) >= number(demand, supply)


@given(demands, supplies)
def test_warm_workers_save_new_ones(demand: Demand, supply: Supply):
    warm, none = supply._replace(starting_s=()), Supply(0, (), supply.cold_start_s)
    assert number(demand, warm) <= max(number(demand, none), warm.warm)


@given(demands, supplies)
def test_the_seconds_of_the_number_hold_the_work_and_those_of_one_fewer_do_not(
    demand: Demand, supply: Supply
):
    demand = demand._replace(due=())
    found = number(demand, supply)
    assume(found > supply.workers)
    horizon_s = MANY.horizon_s(supply.cold_start_s)
    wanted_s = demand.work_s + demand.arriving * horizon_s

    def planned_s(new: int) -> float:
        there_s = supply.warm * horizon_s + sum(max(0.0, horizon_s - eta_s) for eta_s in supply.starting_s)
        return MANY.utilization * (there_s + new * (horizon_s - supply.cold_start_s))

    new = found - supply.workers
    assert planned_s(new) >= wanted_s * (1 - 1e-9)
    assert new == 1 or planned_s(new - 1) < wanted_s * (1 + 1e-9)
