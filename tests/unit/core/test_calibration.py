"""What a request costs, from workers that are full and others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.calibration import Calibration, Sample, quantile


def test_nothing_is_known_before_the_first_answer():
    assert Calibration().work_s is None
    assert Calibration().learned(Sample(0, 1.0, 0.0, 4)).work_s is None
    assert Calibration().learned(Sample(3, 0.0, 0.0, 4)).work_s is None


def test_one_at_a_time_is_taken_for_as_much_as_fits_beside_it():
    assert Calibration().learned(Sample(10, 10.0, 10.0, 4)).work_s == pytest.approx(0.25)


def test_a_full_worker_says_what_it_is():
    # Eight beside one another take twice as long as one alone, not as long.
    found = Calibration().learned(Sample(10, 10.0, 10.0, 8)).learned(Sample(400, 100.0, 800.0, 8))
    assert found.work_s == pytest.approx(0.25, rel=0.05)


def test_what_a_full_worker_said_fades_slowly_when_it_is_not_full():
    found = Calibration().learned(Sample(400, 100.0, 800.0, 8))
    for _ in range(100):
        found = found.learned(Sample(1, 1.0, 1.0, 8))
    assert found.work_s == pytest.approx(0.25, rel=0.03)
    for _ in range(20_000):
        found = found.learned(Sample(1, 1.0, 1.0, 8))
    assert found.work_s == pytest.approx(0.125, rel=0.01)


def test_what_became_faster_or_slower_is_noticed():
    slow = Calibration().learned(Sample(100, 100.0, 100.0, 1))
    assert slow.learned(Sample(1000, 100.0, 100.0, 1)).work_s < 0.3
    for _ in range(100):
        slow = slow.learned(Sample(10, 60.0, 60.0, 1))
    assert slow.work_s == pytest.approx(6.0, rel=0.1)


def test_a_guess_holds_until_it_is_out_of_the_question():
    assert Calibration(work_s=100.0).learned(Sample(10, 10.0, 10.0, 4)).work_s == pytest.approx(1.0)
    low = Calibration(work_s=0.001)
    for _ in range(50):
        low = low.learned(Sample(10, 10.0, 10.0, 4))
    assert low.work_s == pytest.approx(0.25, rel=0.05)


def test_more_than_fits_counts_as_full():
    assert Calibration().learned(Sample(100, 10.0, 640.0, 32)).work_s == pytest.approx(0.1)


def test_tokens_of_a_request():
    found = Calibration().learned(Sample(10, 1.0, 1.0, 1, tokens=1000))
    assert found.tokens == 100
    assert 40 <= found.learned(Sample(1000, 60.0, 60.0, 1, tokens=40_000)).tokens < 42


def test_cold_starts():
    found = Calibration()
    assert found.cold_start_s(0.9, 30.0) == 30.0
    for took_s in range(100):
        found = found.started(float(took_s))
    assert found.cold_start_s(0.5, 30.0) == 89.0
    assert found.cold_start_s(0.9, 30.0) == 97.0


def test_quantiles():
    assert quantile([3.0], 0.9) == 3.0
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0


@given(
    st.floats(0.001, 10),
    st.integers(1, 64),
    st.lists(st.tuples(st.integers(1, 64), st.floats(1, 30)), min_size=1, max_size=20),
)
def test_an_engine_that_batches_perfectly_is_known_from_any_load(alone_s, capacity, loads):
    """Whose requests take as long beside others as alone."""
    found = Calibration()
    for beside, busy_s in loads:
        running = min(beside, capacity)
        completed = max(1, round(busy_s / alone_s * running))
        found = found.learned(Sample(completed, completed * alone_s / running, completed * alone_s, capacity))
    assert found.work_s == pytest.approx(alone_s / capacity, rel=1e-6)
