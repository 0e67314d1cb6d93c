"""How long workers are kept that have nothing to do."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.core.pauses import Pauses, keep_s


def costs(pauses_s, kept_s, price_s):
    """Of one worker over all pauses: while it is kept, and for each restart its price."""
    return sum(min(pause_s, kept_s) + price_s * (pause_s > kept_s) for pause_s in pauses_s)


def test_a_pause_is_from_the_end_of_work_until_there_is_some():
    pauses = Pauses()
    for now_s in (0.0, 1.0, 2.0, 50.0, 51.0, 55.0, 100.0):
        pauses.tell(now_s)
    assert pauses.lengths_s == (48.0, 45.0)


def test_the_latest_count():
    pauses = Pauses()
    for number in range(100):
        pauses.tell(number * 20.0)
    assert pauses.lengths_s == (20.0,) * 32


def test_those_of_before_count_and_the_first_look_ends_none():
    pauses = Pauses((20.0, 30.0))
    pauses.tell(1000.0)
    assert pauses.lengths_s == (20.0, 30.0)
    pauses.tell(1040.0)
    assert pauses.lengths_s == (20.0, 30.0, 40.0)


def test_of_few_pauses_nothing_is_known():
    assert keep_s((), 30.0) is None
    assert keep_s((40.0, 40.0), 30.0) is None


def test_workers_stay_where_work_comes_back_soon():
    assert 540 < keep_s((540.0, 530.0, 520.0), 600.0) < 600


def test_workers_go_at_once_where_it_never_does():
    assert keep_s((700.0, 800.0, 900.0), 600.0) == 10.0


def test_one_long_pause_among_short_ones_is_not_sat_out():
    assert keep_s((100.0, 110.0, 105.0, 5000.0), 600.0) < 130


@given(st.lists(st.floats(10.1, 2000), min_size=3, max_size=32), st.floats(1, 600), st.floats(10, 2500))
def test_no_other_limit_would_have_cost_much_less(pauses_s, price_s, other_s):
    kept_s = keep_s(pauses_s, price_s)
    assert kept_s >= 10.0
    # A tenth longer than the longest that is sat out.
    assert costs(pauses_s, kept_s, price_s) <= 1.1 * costs(pauses_s, other_s, price_s) + 1e-6
