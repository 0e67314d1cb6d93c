"""What comes steadily."""

import pytest

from headrace.core.arrivals import Arrivals


def fed(counts, every_s=1.0, start=1000):
    arrivals, total, now_s = Arrivals(), start, 0.0
    arrivals.tell(total, now_s)
    for count in counts:
        now_s += every_s
        total += count
        arrivals.tell(total, now_s)
    return arrivals, now_s


def test_what_was_there_before_has_not_just_arrived():
    arrivals, now_s = fed([0] * 30)
    assert arrivals.per_s(now_s) == 0.0
    assert arrivals.last_s is None
    assert arrivals.total == 1000


def test_a_steady_stream():
    arrivals, now_s = fed([3] * 60)
    assert arrivals.per_s(now_s) == pytest.approx(3.0, rel=0.1)
    assert arrivals.last_s == now_s


def test_a_stream_is_known_after_some_intervals():
    arrivals, now_s = fed([3] * 17)
    assert arrivals.per_s(now_s) == pytest.approx(3.0, rel=0.2)


@pytest.mark.parametrize("at", range(12))
def test_a_burst_is_not_expected_again(at):
    counts = [0] * 40
    counts[at : at + 2] = [500, 500]
    arrivals, now_s = fed(counts)
    assert arrivals.per_s(now_s) == 0.0


def test_a_burst_in_a_stream_leaves_the_stream():
    counts = [3] * 60
    counts[30] = 500
    arrivals, now_s = fed(counts)
    assert arrivals.per_s(now_s) == pytest.approx(3.0, rel=0.1)


def test_after_a_minute_of_silence_it_begins_anew():
    arrivals, now_s = fed([3] * 60)
    assert arrivals.per_s(now_s + 61) == 0.0
    arrivals.tell(arrivals.total + 5, now_s + 100)
    assert arrivals.per_s(now_s + 100) == 0.0


def test_a_long_gap_between_two_looks_is_no_work():
    arrivals, now_s = fed([1])
    arrivals.tell(arrivals.total + 1, now_s + 1e6)
    assert arrivals.per_s(now_s + 1e6) == 0.0


def test_a_count_that_falls_is_no_arrival():
    arrivals, now_s = fed([5])
    arrivals.tell(3, now_s + 1)
    assert arrivals.total == 3
