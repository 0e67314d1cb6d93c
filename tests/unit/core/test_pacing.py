"""Up in steps, down slowly, to none when idle."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.pacing import Need, Pace, PaceRules, step

RULES = PaceRules(up_step_s=10, down_window_s=120, down_step_s=60)


def need(workers, *, least=0, is_waiting=True, idle_s=0.0, cold_start_s=30.0, warm=100, pauses_s=()):
    return Need(workers, least, is_waiting, idle_s, cold_start_s, warm, pauses_s)


def run(pace, needs, rules=RULES, start_s=0.0, every_s=1.0):
    targets, now_s = [], start_s
    for each in needs:
        pace, _ = step(pace, each, rules, now_s)
        targets.append(pace.target)
        now_s += every_s
    return pace, targets


def test_from_none_to_as_many_as_are_needed_at_once():
    assert run(Pace(), [need(40)])[1] == [40]


def test_none_starts_while_nothing_waits():
    pace, why = step(Pace(), need(3, is_waiting=False), RULES, 0.0)
    assert (pace.target, why) == (0, "nothing waits")


def test_the_least_is_there_without_any_work():
    assert run(Pace(), [need(2, least=2, is_waiting=False)])[1] == [2]


def test_up_by_doubling_or_four_in_each_step():
    _, targets = run(Pace(target=1), [need(40)] * 35)
    assert targets[0] == 5
    assert targets[9:12] == [5, 10, 10]
    assert targets[20] == 20
    assert targets[30] == 40
    assert "in steps" in step(Pace(target=1), need(40), RULES, 0.0).reason


def test_a_clock_that_was_set_back_holds_up_no_step():
    before, _ = run(Pace(target=1), [need(5)], start_s=3600.0)
    pace, targets = run(before, [need(40)] * 25, start_s=10.0)
    assert targets[10] == 10
    _, targets = run(pace, [need(1)] * 200, start_s=0.0)
    assert targets[0] == pace.target > targets[-1]


def test_what_is_needed_within_a_step_grows_with_it():
    _, targets = run(Pace(target=1), [need(2), need(3), need(9)])
    assert targets == [2, 3, 5]


def test_down_only_after_the_window_and_by_a_quarter():
    _, targets = run(Pace(), [need(16), *([need(1)] * 300)])
    assert targets[119] == 16
    assert targets[121] == 12
    assert targets[180] == 12
    assert targets[182] == 9


def test_half_a_cold_start_that_is_longer_than_the_window_counts():
    _, targets = run(Pace(), [need(8), *([need(1, cold_start_s=400.0)] * 202)])
    assert targets[200] == 8
    assert targets[202] == 6


def test_those_that_are_not_ready_go_after_the_window_and_at_once():
    cold = [need(16, warm=3, cold_start_s=400.0), *([need(1, warm=3, cold_start_s=400.0)] * 130)]
    pace, targets = run(Pace(), cold)
    assert targets[120] == 16
    assert targets[121:] == [3] * 10
    assert "those that are not ready go" in step(replace(pace, target=4), cold[-1], RULES, 131.0).reason


def test_of_those_that_are_not_ready_as_many_stay_as_are_needed():
    assert run(Pace(), [need(16, warm=3), *([need(5, warm=3)] * 130)])[1][-1] == 5
    assert run(Pace(), [need(16, least=4, warm=0), *([need(0, least=4, warm=0)] * 130)])[1][-1] == 4


def test_a_need_that_comes_again_keeps_them():
    needs = [need(8 if second % 100 == 0 else 1) for second in range(1000)]
    assert set(run(Pace(), needs)[1]) == {8}


def test_they_go_sooner_where_experience_says_so():
    wave = [*([need(16)] * 30), *([need(2)] * 300)]
    _, targets = run(Pace(), wave * 6, PaceRules())
    first, last = targets[:330], targets[-330:]
    assert 90 <= first.count(16) < 95, "nobody knows yet"
    assert last[30:40] == [16] * 10
    assert last[41:] == [2] * 289, "all that are too many at once"


def test_those_that_are_needed_again_soon_stay_meanwhile():
    # Those beyond eight are needed again after 20 or 300 s, the others after 300 s.
    wave = [*([need(16)] * 30), *([need(8)] * 20), *([need(16)] * 30), *([need(2)] * 300)]
    _, targets = run(Pace(), wave * 6, PaceRules())
    last = targets[-380:]
    assert last[30:50] == [16] * 20
    assert last[80:102] == [16] * 22
    assert last[102:] == [2] * 278


def test_a_window_that_is_set_leaves_experience_out():
    wave = [*([need(16)] * 30), *([need(2)] * 400)]
    _, targets = run(Pace(), wave * 6)
    assert targets[-400:-280] == [16] * 120
    assert targets[-280] > 2


def test_the_last_goes_by_idleness_alone():
    _, targets = run(Pace(target=1), [need(0, is_waiting=False, idle_s=5.0)] * 1000)
    assert set(targets) == {1}
    idle = need(0, is_waiting=False, idle_s=60.0)
    assert run(Pace(target=5), [idle])[1] == [0]
    assert "idle for 60 s" in step(Pace(target=5), idle, RULES, 0.0).reason


def test_who_runs_something_is_not_idle_however_soon_the_last_one_goes():
    rules = PaceRules(idle_s=0.0)
    busy = need(1, is_waiting=False, idle_s=0.0)
    assert step(Pace(target=1), busy, rules, 0.0).pace.target == 1
    assert step(Pace(target=1), busy._replace(workers=0, idle_s=0.1), rules, 0.0).pace.target == 0


def test_idle_for_as_long_as_a_start_takes():
    assert RULES.idle_for(5.0) == 60.0
    assert RULES.idle_for(300.0) == 300.0
    assert RULES.idle_for(5000.0) == 900.0
    assert PaceRules(idle_s=1.0).idle_for(300.0) == 1.0


def test_idle_for_as_long_as_the_pauses_say():
    assert RULES.idle_for(300.0, (400.0,) * 5) == pytest.approx(440.0)
    assert RULES.idle_for(300.0, (5000.0,) * 5) == 10.0
    assert RULES.idle_for(5000.0, (2000.0,) * 5) == 900.0
    assert PaceRules(idle_s=1.0).idle_for(300.0, (400.0,) * 5) == 1.0
    rare = need(0, is_waiting=False, idle_s=10.0, pauses_s=(5000.0,) * 5)
    assert run(Pace(target=5), [rare])[1] == [0]


def test_who_must_be_there_stays_when_idle():
    assert run(Pace(target=2), [need(2, least=2, is_waiting=False, idle_s=1e6)] * 500)[1][-1] == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.booleans(), st.floats(0, 200), st.integers(0, 80)), max_size=150
    ),
    st.integers(0, 5),
)
def test_no_step_is_too_large(seen, least):
    pace, now_s = Pace(), 0.0
    for wanted, is_waiting, idle_s, warm in seen:
        before = pace.target
        given_need = need(max(wanted, least), least=least, is_waiting=is_waiting, idle_s=idle_s, warm=warm)
        pace, _ = step(pace, given_need, RULES, now_s)
        assert pace.target >= least
        assert pace.target <= max(before, given_need.workers)
        if 0 < pace.target < before:
            assert before - pace.target <= max(1, before // 4, before - warm)
        if before and not pace.target:
            assert not is_waiting
        times = [at_s for at_s, _ in pace.needs]
        numbers = [number for _, number in pace.needs]
        assert times == sorted(times)
        assert numbers == sorted(set(numbers), reverse=True)
        now_s += 7.0
