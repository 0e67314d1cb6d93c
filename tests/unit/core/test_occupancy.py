"""Seconds with something to do."""

from headrace.core.occupancy import Occupancy, Occupied


def test_what_overlaps_counts_once_as_busy_and_each_for_itself():
    found = Occupancy()
    found.begin(10.0)
    found.begin(12.0)
    assert found.until(13.0) == Occupied(3.0, 0.0, 4.0)
    found.end(10.0, 15.0)
    found.end(12.0, 16.0)
    assert found.until(99.0) == Occupied(6.0, 9.0, 9.0)
    found.begin(100.0)
    assert found.until(101.0) == Occupied(7.0, 9.0, 10.0)
