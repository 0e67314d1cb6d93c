"""What comes steadily."""

import pytest

from headrace.core.arrivals import Arrivals


def fed(counts, every_s=1.0, start=1000, spells_s=()):
    arrivals, total, now_s = Arrivals(spells_s), start, 0.0
    arrivals.tell(total, now_s)
    for count in counts:
        now_s += every_s
        total += count
        arrivals.tell(total, now_s)
    return arrivals, now_s


def test_what_was_there_before_has_not_just_arrived():
    arrivals, now_s = fed([0] * 30)
    assert arrivals.per_s(now_s, 60) == 0.0
    assert arrivals.last_s is None
    assert arrivals.total == 1000


@pytest.mark.parametrize("window_s", [1, 60, 300, 9000])
def test_a_steady_stream(window_s):
    arrivals, now_s = fed([3] * 3000)
    assert arrivals.per_s(now_s, window_s) == pytest.approx(3.0, rel=0.02)
    assert arrivals.last_s == now_s


def test_what_has_come_for_a_minute_is_expected_to_go_on():
    arrivals, now_s = fed([3] * 30)
    assert arrivals.per_s(now_s, 60) == arrivals.per_s(now_s, 600) == pytest.approx(1.14)
    for seconds in (60, 65, 95, 200):
        arrivals, now_s = fed([0] * 1000 + [3] * seconds)
        assert arrivals.per_s(now_s, 600) == pytest.approx(3.0, rel=0.05)


def test_what_stays_away_for_long_has_ended():
    arrivals, now_s = fed([3] * 300)
    assert arrivals.per_s(now_s + 4, 600) == pytest.approx(3.0, rel=0.02)
    assert arrivals.per_s(now_s + 6, 600) == 0.0
    rare, now_s = fed([0] * 4 + ([1] + [0] * 19) * 60)
    assert rare.per_s(now_s + 60, 600) == pytest.approx(0.05, rel=0.2)
    assert rare.per_s(now_s + 400, 600) == 0.0


@pytest.mark.parametrize("at", range(12))
def test_a_burst_is_not_expected_again(at):
    counts = [0] * 40
    counts[at : at + 2] = [500, 500]
    arrivals, now_s = fed(counts)
    assert arrivals.per_s(now_s, 60) == 0.0
    assert arrivals.per_s(now_s, 600) == 0.0


def test_a_burst_in_a_stream_leaves_the_stream():
    counts = [3] * 90
    counts[60] = 500
    arrivals, now_s = fed(counts)
    assert arrivals.per_s(now_s, 60) == pytest.approx(3.0, rel=0.1)


def test_what_comes_in_spells_is_expected_for_as_long_as_one_lasts():
    spell = [3] * 90 + [0] * 500
    first, now_s = fed([3] * 60)
    assert first.per_s(now_s, 60) == pytest.approx(3.0, rel=0.05), "nobody knows yet"
    # Of those that the first look found there nobody knows for how long they had come.
    later, now_s = fed(spell * 4 + [3] * 60)
    # For 1.1 * 89 - 59 of the 60 seconds ahead.
    assert later.per_s(now_s, 60) == pytest.approx(3.0 * 38.9 / 60, rel=0.05)
    over, now_s = fed(spell * 4 + [3] * 90)
    assert over.per_s(now_s, 60) == pytest.approx(3.0 * 8.9 / 60, rel=0.05)
    longer, now_s = fed(spell * 4 + [3] * 110)
    assert longer.per_s(now_s, 60) == pytest.approx(3.0, rel=0.05), "it is longer than all before it"


def test_the_spell_that_the_first_look_falls_into_is_not_counted():
    spell = [3] * 30 + [0] * 100
    joined, _ = fed(spell * 3)
    assert joined.spells_s == (29.0,), "the last one may go on"
    begun, _ = fed(spell * 3, start=0)
    assert begun.spells_s == (29.0, 29.0), "none had ever come before"
    quiet, _ = fed([0] * 61 + spell * 3)
    assert quiet.spells_s == (29.0, 29.0), "none had come for longer than is planned ahead"


def test_spells_of_before_are_known_from_the_start():
    new, now_s = fed([0] * 100 + [3] * 25)
    taught, _ = fed([0] * 100 + [3] * 25, spells_s=(29.0,) * 3)
    # For 1.1 * 29 - 24 of the 60 seconds ahead.
    assert taught.per_s(now_s, 60) == pytest.approx(new.per_s(now_s, 60) * 7.9 / 60)
    assert taught.spells_s == (29.0,) * 3


def test_nothing_is_expected_after_a_window_of_silence():
    arrivals, now_s = fed([3] * 90)
    arrivals.tell(arrivals.total, now_s + 30)
    assert arrivals.per_s(now_s + 61, 60) == 0.0


def test_a_long_gap_between_two_looks_is_no_work():
    arrivals, now_s = fed([1])
    arrivals.tell(arrivals.total + 1, now_s + 1e9)
    assert arrivals.per_s(now_s + 1e9, 60) == 0.0


def test_a_clock_that_was_set_back_leaves_the_rate():
    arrivals, _ = fed([3] * 300, start=0)
    arrivals.tell(900, -3600.0)
    for second in range(1, 300):
        arrivals.tell(900, second - 3600.0)
    assert arrivals.per_s(-3300.0, 60) == 0.0, "nothing has come since"


def test_a_count_that_falls_is_no_arrival():
    arrivals, now_s = fed([5])
    arrivals.tell(3, now_s + 1)
    assert arrivals.total == 3
