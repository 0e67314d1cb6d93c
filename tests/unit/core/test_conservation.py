"""Two counts of what is done: when they agree, and when not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.conservation import WINDOW_S, Account


def told(account, counts, start_s=0.0, **options):
    """The last error, of counts told once a second."""
    error = 0
    for second, (committed, said) in enumerate(counts):
        error = account.tell(committed, said, start_s + second, **options)
    return error


def test_counts_that_begin_anywhere_agree():
    assert told(Account(), [(1000 + n, n) for n in range(100)]) == 0


def test_what_is_committed_and_nobody_tells_of():
    account = Account()
    assert told(account, [(n, n) for n in range(30)] + [(30, 30)] * 12 + [(37, 30)] * 5) == 0, "may be late"
    assert told(account, [(37, 30)] * 12, 47.0) == 7


def test_what_was_done_and_is_not_committed():
    account = Account()
    assert told(account, [(n, n) for n in range(30)] + [(30, 30)] * 12 + [(20, 30)] * 12) == -10


def test_a_commit_that_comes_late_is_no_error():
    assert told(Account(), [(n, n) for n in range(30)] + [(29, 35)] * 8 + [(35, 35)] * 20) == 0


def test_what_ends_without_a_worker_was_late_or_cancelled():
    account = Account()
    told(account, [(10, 10)] * 20)
    assert told(account, [(13, 10)] * 20, 20.0, is_watched=False) == 0
    assert told(account, [(13 + n, 10 + n) for n in range(20)], 40.0) == 0
    assert told(account, [(30, 29)] * 20, 60.0, is_watched=False) == -2, "nobody takes anything back"


def test_an_account_that_begins_anew_forgives():
    account = Account()
    assert told(account, [(10, 10)] * 20 + [(15, 10)] * 20) == 5
    account.restart()
    assert account.error == 0
    assert told(account, [(15, 10)] * 30, 40.0) == 0


def test_an_error_is_told_for_ten_minutes():
    account = Account()
    assert told(account, [(10, 10)] * 20 + [(15, 10)] * 600) == 5
    assert told(account, [(15, 10)] * 60, 620.0) == 0


@given(
    st.lists(st.integers(0, 500), min_size=30, max_size=80),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=80, max_size=80),
    st.integers(0, 10_000),
)
def test_no_delay_is_an_error(rates, lags, before):
    """Whatever is done, and however each count lags behind it within the window."""
    done = [sum(rates[:second]) for second in range(len(rates) + 1)]
    assert max(lag for pair in lags for lag in pair) < WINDOW_S
    account = Account()
    committed = said = 0
    for second in range(len(rates)):
        late, later = lags[second]
        committed = max(committed, done[max(0, second - late)])
        said = max(said, done[max(0, second - later)])
        assert account.tell(before + committed, said, float(second)) == 0


@given(
    st.lists(st.integers(0, 500), min_size=20, max_size=40),
    st.integers(1, 100),
    st.booleans(),
)
def test_no_error_stays_hidden_when_it_is_quiet(rates, missing, committed_only):
    account = Account()
    done = 0
    for second, rate in enumerate(rates + [0] * 25):
        done += rate
        assert account.tell(done, done, float(second)) == 0
    end_s = float(len(rates) + 25)
    pair = (done + missing, done) if committed_only else (done - missing, done)
    assert told(account, [pair] * 15, end_s) == (missing if committed_only else -missing)


@pytest.mark.parametrize("looks_s", [0.5, 5.0])
def test_seldom_looks_do(looks_s):
    account, error = Account(), 0
    for look in range(100):
        now_s = look * looks_s
        error = account.tell(7 if now_s > 20 else 5, 5, now_s)
    assert error == 2
