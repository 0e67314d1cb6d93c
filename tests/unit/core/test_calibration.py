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


def test_what_runs_still_is_soon_outweighed():
    found = Calibration()
    # One after the other, two seconds each, and a word in the middle of every one.
    for completed, held_s in ((0, 1.0), (1, 2.0), (1, 2.0), (1, 1.0)):
        found = found.learned(Sample(completed, held_s, held_s, 4))
    assert found.work_s == pytest.approx(0.5, rel=0.01)


def test_no_request_costs_less_than_nothing():
    # Of many long ones that run beside a few short ones each counts, until the first of them end.
    found = Calibration().learned(Sample(0, 100.0, 16 * 99.0, 16))
    assert found.learned(Sample(1, 1.0, -16 * 50.0, 16, slot_s=100.0)).work_s >= 0.0
    late = Calibration().learned(Sample(5, 1.0, -800.0, 16, slot_s=500.0))
    assert late.work_s == pytest.approx(0.2), "at most what it was busy for"
    assert late.learned(Sample(5, 100.0, -800.0, 16, slot_s=500.0)).work_s >= 500.0 / 16 / 10


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
    few = Calibration(work_s=1.5).learned(Sample(10, 10.0, 10.0, 4))
    assert few.work_s > 1.4, "ten may well be shorter than most"
    assert few.learned(Sample(1000, 1000.0, 1000.0, 4)).work_s < 1.1
    assert Calibration(work_s=100.0).learned(Sample(10, 10.0, 10.0, 4)).work_s < 1.7
    low = Calibration(work_s=0.001)
    for _ in range(50):
        low = low.learned(Sample(10, 10.0, 10.0, 4))
    assert low.work_s == pytest.approx(0.25, rel=0.05)


def test_more_than_fits_counts_as_full():
    assert Calibration().learned(Sample(100, 10.0, 640.0, 32)).work_s == pytest.approx(0.1)


def test_tokens_of_a_request():
    found = Calibration().learned(Sample(10, 1.0, 1.0, 1, tokens_in=900, tokens_out=100))
    assert (found.tokens, found.mean.tokens_out) == (100, 10)
    assert 40 <= found.learned(Sample(1000, 60.0, 60.0, 1, tokens_in=40_000)).tokens < 42


def test_a_request_is_as_large_as_its_tokens_cost():
    known = Calibration().learned(Sample(10, 1.0, 1.0, 1, 1000, 100, body_bytes=5000))
    assert known.expected(500) == (1.0, 110.0)
    # Ten times the prompt: a token read costs a tenth of one written.
    assert known.expected(5000) == (pytest.approx(5.5), pytest.approx(1010))
    assert known.expected(500, max_tokens=2) == (pytest.approx(0.6), pytest.approx(102))
    assert known.expected(500, max_tokens=1000) == (1.0, 110.0)


def test_where_no_tokens_are_told_all_are_alike():
    known = Calibration().learned(Sample(10, 1.0, 1.0, 1, body_bytes=5000))
    assert known.expected(50_000, 7) == (1.0, 0.0)
    assert Calibration().expected(50_000) == (1.0, 0.0)


def test_what_tokens_cost_is_learned():
    found = Calibration()
    for number in range(200):
        # A token read takes half as long as one written.
        tokens_in, tokens_out = 100 + number % 7 * 50, 10 + number % 5 * 10
        slot_s = 0.01 * tokens_in + 0.02 * tokens_out
        found = found.learned(Sample(1, slot_s, slot_s, 1, tokens_in, tokens_out, 4 * tokens_in, slot_s))
    size, _ = found.expected(4000)
    usual = 0.01 * found.mean.tokens_in + 0.02 * found.mean.tokens_out
    assert size * usual == pytest.approx(10 + 0.02 * found.mean.tokens_out)
    guess = found.guess()
    assert (guess.work_s, guess.costs.cost, guess.completed) == (found.work_s, found.costs.cost, 0.0)


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
