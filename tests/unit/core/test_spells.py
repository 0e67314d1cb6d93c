"""For how long requests come."""

import pytest

from headrace.core.spells import Spells


def fed(*spells, gap_s=1.0, quiet_s=600.0):
    """Spells of so many seconds, one request each `gap_s`."""
    found, now_s = Spells(), 0.0
    for length_s in spells:
        now_s += quiet_s
        for at in range(int(length_s / gap_s) + 1):
            found.tell(now_s + at * gap_s, 60.0)
        now_s += length_s
    return found, now_s


def test_of_few_spells_nothing_is_known():
    found, now_s = fed(30, 30, 10)
    assert found.share(60.0, now_s) == 1.0


def test_no_more_is_expected_than_is_left_of_a_spell():
    found, now_s = fed(30, 30, 30, 13)
    assert found.share(40.0, now_s) == pytest.approx(20 / 40)
    assert found.share(10.0, now_s) == 1.0
    assert found.share(40.0, now_s + 15) == pytest.approx(5 / 40)
    assert found.share(40.0, now_s + 21) == 0.0


def test_only_those_count_that_were_no_shorter():
    found, now_s = fed(5, 5, 5, 5, 30, 13)
    assert found.share(40.0, now_s) == pytest.approx(20 / 40)
    short, now_s = fed(5, 30, 5, 30, 0)
    assert short.share(33.0, now_s) == pytest.approx((5.5 + 33) / 2 / 33)


def test_a_spell_that_is_longer_than_all_before_it_goes_on():
    found, now_s = fed(30, 30, 30, 40)
    assert found.share(60.0, now_s) == 1.0


def test_what_comes_again_within_the_time_ahead_is_of_one_spell():
    found, now_s = fed(20_000, gap_s=50.0)
    assert found.share(60.0, now_s) == 1.0
    apart, now_s = fed(20_000, gap_s=70.0)
    assert apart.share(60.0, now_s) == 0.0


def test_what_goes_on_when_the_look_begins_is_not_counted():
    found = Spells((30.0,) * 3)
    found.join(0.0)
    for now_s in range(10, 25):
        found.tell(float(now_s), 60.0)
    assert found.share(60.0, 24.0) == 1.0, "it may last for longer than all before it"
    found.tell(100.0, 60.0)
    assert found.lengths_s == (30.0,) * 3
    assert found.share(40.0, 113.0) == pytest.approx(20 / 40)
    found.tell(200.0, 60.0)
    assert found.lengths_s == (30.0, 30.0, 30.0, 0.0)


def test_the_latest_count():
    found, now_s = fed(*([500] * 5), *([30] * 32), 13)
    assert found.share(40.0, now_s) == pytest.approx(20 / 40)
