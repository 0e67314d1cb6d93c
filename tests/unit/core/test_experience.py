"""What the next scaler is told of pauses, spells and lulls."""

import pytest

from headrace.contracts.decisions import Learned
from headrace.core.experience import Experience


def lengths(number):
    return tuple(10.0 + each / 7 for each in range(number))


def test_it_is_rounded():
    told = Experience((10.26,), (0.04, 3.0), ((), (99.99,))).brief()
    assert told == Experience((10.3,), (0.0, 3.0), ((), (100.0,)))


@pytest.mark.parametrize(("levels", "each"), [(0, 32), (1, 32), (32, 32), (64, 16), (300, 4), (2000, 4)])
def test_the_latest_of_each_number_and_fewer_where_numbers_are_many(levels, each):
    known = Experience(lengths(32), lengths(32), (lengths(32),) * levels)
    told = known.brief()
    assert [len(lengths_s) for lengths_s in told.lulls_s] == [each] * levels
    assert all(lengths_s[-1] == 14.4 for lengths_s in told.lulls_s)
    assert (len(told.pauses_s), len(told.spells_s)) == (32, 32)


@pytest.mark.parametrize("levels", [32, 256, 300])
def test_a_record_stays_small(levels):
    long = tuple(10_000.0 + each / 7 for each in range(32))
    told = Experience(long, long, (long,) * levels).brief()
    event = Learned(model="m", at_s=0.0, pauses_s=told.pauses_s, spells_s=told.spells_s, lulls_s=told.lulls_s)
    assert len(event.encode()) < 12_000
