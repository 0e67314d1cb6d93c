"""Token buckets and counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.limits import MAX_RETRY_AFTER_S, Allowed, Bucket, Refused, TenantLimits, decide

_times = st.floats(0, 1e9, allow_nan=False)


def test_without_limits_everything_is_allowed() -> None:
    limits = TenantLimits()
    assert not limits.is_any
    assert decide(limits, None, 10**9, 0.0) == Allowed(None)


def test_a_count_is_a_limit_of_its_own() -> None:
    limits = TenantLimits(max_waiting=2)
    assert limits.is_any
    assert decide(limits, None, 1, 0.0) == Allowed(None)
    refused = decide(limits, None, 2, 0.0)
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == 1
    assert "2 of its requests wait" in refused.reason


def test_a_burst_and_then_the_rate() -> None:
    limits = TenantLimits(rate_per_s=0.5, burst=3)
    bucket: Bucket | None = None
    for left in (2.0, 1.0, 0.0):
        answer = decide(limits, bucket, 0, 100.0)
        assert answer == Allowed(Bucket(left, 100.0))
        bucket = answer.bucket
    assert decide(limits, bucket, 0, 100.0) == Refused("it may send 0.5 requests a second to this gateway", 2)
    assert isinstance(decide(limits, bucket, 0, 101.9), Refused)
    assert decide(limits, bucket, 0, 102.0) == Allowed(Bucket(0.0, 102.0))
    assert decide(limits, bucket, 0, 1e6) == Allowed(Bucket(2.0, 1e6))


@pytest.mark.parametrize(("rate_per_s", "capacity"), [(0.1, 1.0), (1.0, 1.0), (20.0, 20.0)])
def test_without_a_burst_it_is_what_a_second_allows(rate_per_s: float, capacity: float) -> None:
    assert TenantLimits(rate_per_s=rate_per_s).capacity == capacity


def test_a_refusal_for_the_count_takes_no_token() -> None:
    limits = TenantLimits(max_waiting=1, rate_per_s=1.0, burst=1)
    assert isinstance(decide(limits, None, 1, 0.0), Refused)
    assert isinstance(decide(limits, None, 0, 0.0), Allowed)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    limits = TenantLimits(rate_per_s=1.0, burst=5)
    assert decide(limits, Bucket(2.0, 100.0), 0, 50.0) == Allowed(Bucket(1.0, 50.0))


@given(rate_per_s=st.floats(0.001, 1e4), tokens=st.floats(0, 0.99), at_s=_times)
def test_whoever_waits_as_told_is_let_in_unless_it_was_cut_to_a_minute(
    rate_per_s: float, tokens: float, at_s: float
) -> None:
    limits = TenantLimits(rate_per_s=rate_per_s, burst=1)
    bucket = Bucket(tokens, at_s)
    refused = decide(limits, bucket, 0, at_s)
    assert isinstance(refused, Refused)
    assert 1 <= refused.retry_after_s <= MAX_RETRY_AFTER_S
    if refused.retry_after_s < MAX_RETRY_AFTER_S:
        # A hair more: the sum of floats may fall short of one.
        assert isinstance(
            decide(limits, bucket, 0, at_s + refused.retry_after_s * (1 + 1e-6) + 1e-6), Allowed
        )


@given(steps=st.lists(st.floats(0, 5), max_size=60), rate_per_s=st.floats(0.1, 20), burst=st.integers(1, 10))
def test_never_more_than_the_burst_and_the_rate_together(
    steps: list[float], rate_per_s: float, burst: int
) -> None:
    limits = TenantLimits(rate_per_s=rate_per_s, burst=burst)
    bucket: Bucket | None = None
    now_s, allowed = 0.0, 0
    for step in steps:
        now_s += step
        answer = decide(limits, bucket, 0, now_s)
        if isinstance(answer, Allowed):
            bucket, allowed = answer.bucket, allowed + 1
    assert allowed <= burst + rate_per_s * now_s + 1e-6
