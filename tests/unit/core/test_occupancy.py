"""Seconds with something to do."""

from headrace.core.occupancy import Occupancy, Occupied


def test_what_overlaps_counts_once_as_busy_and_each_for_itself():
    found = Occupancy()
    found.begin(10.0)
    found.begin(12.0)
    assert found.until(13.0) == Occupied(3.0, 0.0, 0.0)
    found.end(10.0, 15.0)
    found.end(12.0, 16.0)
    assert found.until(99.0) == Occupied(6.0, 9.0, 9.0)
    found.begin(100.0)
    assert found.until(101.0) == Occupied(7.0, 9.0, 9.0)


def test_what_runs_counts_as_far_as_it_takes_longer_than_others():
    found = Occupancy()
    for _ in range(3):
        found.begin(0.0)
    assert found.until(5.0).held_s == 0.0, "nobody knows how long they take"
    found.end(0.0, 6.0)
    assert found.until(6.0).held_s == 6.0
    assert found.until(10.0).held_s == 6.0 + 2 * 4.0
    found.end(0.0, 12.0)
    assert found.until(12.0).held_s == 18.0 + 3.0
    found.end(0.0, 12.0)
    assert found.until(99.0) == Occupied(12.0, 30.0, 30.0)
