"""Work and costs from decisions."""

import pytest

from headrace.contracts.decisions import Decision
from headrace.core import history


def decision(at_s, arrived, work_s=None, **more):
    given = {"waiting": 0, "running": 0, "retrying": 0, "arriving_per_s": 0.0, "cold_start_s": 3.0}
    counts = {"warm": 0, "starting": 0, "draining": 0, "needed": 0, "target": 0}
    return Decision(
        model="m",
        version="v",
        at_s=at_s,
        epoch=1,
        seq=1,
        arrived=arrived,
        work_s=work_s,
        reason="",
        **given | counts | more,
    )


def test_requests_are_spread_over_the_time_in_which_they_came():
    past = [decision(100.0, 7), decision(110.0, 9, 0.5), decision(111.0, 9, 0.5), decision(115.0, 10, 2.0)]
    assert history.jobs(past) == [(5.0, 0.5), (10.0, 0.5), (15.0, 2.0)]


def test_topics_that_were_made_anew_count_from_the_beginning():
    past = [decision(0.0, 7, 1.0), decision(2.0, 2, 1.0)]
    assert [job.at_s for job in history.jobs(past)] == [1.0, 2.0]


def test_a_scaler_that_has_not_read_the_topics_yet_makes_no_requests():
    past = [decision(0.0, 0, 1.0), decision(1.0, 7, 1.0), decision(2.0, 0, 1.0), decision(4.0, 8, 1.0)]
    assert [job.at_s for job in history.jobs(past)] == [pytest.approx((n + 1) / 7) for n in range(7)] + [4.0]
    anew = [decision(0.0, 7, 1.0), decision(100.0, 0, 1.0), decision(101.0, 1, 1.0)]
    assert [job.at_s for job in history.jobs(anew)] == [101.0]


def test_the_clock_of_another_scaler_may_be_behind():
    past = [decision(100.0, 0, 1.0, warm=1), decision(98.0, 1, 1.0, warm=1), decision(99.0, 2, 1.0)]
    assert [job.at_s for job in history.jobs(past)] == [0.0, 1.0]
    assert (history.spent_s(past), history.lasted_s(past)) == (1.0, 1.0)


def test_nothing_is_known_of_requests_that_nobody_answered():
    assert history.jobs([decision(0.0, 0), decision(1.0, 5)]) == []
    assert history.jobs([decision(0.0, 0, 1.0)]) == []


def test_what_was_spent():
    past = [decision(0.0, 0, warm=1), decision(10.0, 0, starting=2, draining=1), decision(20.0, 0, warm=9)]
    assert history.spent_s(past) == pytest.approx(40.0)
    assert history.cold_start_s(past) == 3.0


def test_while_no_scaler_acts_only_those_count_that_are_there_before_and_after():
    past = [decision(0.0, 0, warm=3), decision(60.0, 0, warm=3), decision(36_060.0, 0, warm=1)]
    assert history.spent_s(past) == 3 * 60.0 + 36_000.0
    past[-1] = decision(36_060.0, 0)  # the stack was down
    assert history.spent_s(past) == 3 * 60.0
