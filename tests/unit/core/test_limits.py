"""Token buckets and counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.errors import QueueFull
from headrace.core.limits import (
    FULL,
    MAX_RETRY_AFTER_S,
    Allowed,
    Bucket,
    Buckets,
    Level,
    Refused,
    Standing,
    TenantLimits,
    check_queue,
    correct,
    decide,
    stand,
)

_times = st.floats(0, 1e9, allow_nan=False)


def requests(left: float, at_s: float) -> Buckets:
    """Buckets with so many requests left."""
    return Buckets(requests=Bucket(left, at_s))


def test_without_limits_everything_is_allowed() -> None:
    limits = TenantLimits()
    assert not limits.is_any
    assert decide(limits, FULL, 10**9, 0.0, 10**9) == Allowed(FULL, Standing())


def test_a_count_is_a_limit_of_its_own() -> None:
    limits = TenantLimits(max_waiting=2)
    assert limits.is_any
    assert isinstance(decide(limits, FULL, 1, 0.0), Allowed)
    refused = decide(limits, FULL, 2, 0.0)
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == 1
    assert "2 of its requests wait" in refused.reason


def test_a_burst_and_then_the_rate() -> None:
    limits = TenantLimits(rate_per_s=0.5, burst=3)
    buckets = FULL
    for left in (2, 1, 0):
        answer = decide(limits, buckets, 0, 100.0)
        level = Level(3, left, (3 - left) / 0.5)
        assert answer == Allowed(requests(float(left), 100.0), Standing(level))
        buckets = answer.buckets
    refused = decide(limits, buckets, 0, 100.0)
    assert refused[:2] == ("it may send 0.5 requests a second to this gateway", 2)
    assert refused.standing.requests == Level(3, 0, 6.0)
    assert isinstance(decide(limits, buckets, 0, 101.9), Refused)
    for now_s, left in ((102.0, 0.0), (1e6, 2.0)):
        answer = decide(limits, buckets, 0, now_s)
        assert isinstance(answer, Allowed)
        assert answer.buckets == requests(left, now_s)


@pytest.mark.parametrize(("rate_per_s", "capacity"), [(0.1, 1), (1.0, 1), (20.0, 20)])
def test_without_a_burst_it_is_what_a_second_allows(rate_per_s: float, capacity: int) -> None:
    told = stand(TenantLimits(rate_per_s=rate_per_s), FULL, 0.0).requests
    assert told == Level(capacity, capacity, 0.0)


def test_a_refusal_for_the_count_takes_no_token() -> None:
    limits = TenantLimits(max_waiting=1, rate_per_s=1.0, burst=1)
    assert isinstance(decide(limits, FULL, 1, 0.0), Refused)
    assert isinstance(decide(limits, FULL, 0, 0.0), Allowed)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    limits = TenantLimits(rate_per_s=1.0, burst=5)
    answer = decide(limits, requests(2.0, 100.0), 0, 50.0)
    assert isinstance(answer, Allowed)
    assert answer.buckets == requests(1.0, 50.0)


def test_tokens_are_taken_by_estimate_and_corrected() -> None:
    limits = TenantLimits(tokens_per_min=600)
    answer = decide(limits, FULL, 0, 0.0, 100)
    assert isinstance(answer, Allowed)
    assert answer.standing.tokens == Level(600, 500, 10.0)
    after = correct(limits, answer.buckets, 700, 0.0)
    assert stand(limits, after, 0.0).tokens == Level(600, 0, 80.0)
    refused = decide(limits, after, 0, 0.0, 100)
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == 30
    assert isinstance(decide(limits, after, 0, 30.0, 100), Allowed)
    assert correct(limits, FULL, -700, 5.0).tokens == Bucket(600.0, 5.0)


def test_more_tokens_than_a_full_bucket_holds_need_a_full_bucket() -> None:
    limits = TenantLimits(tokens_per_min=600)
    answer = decide(limits, FULL, 0, 0.0, 900)
    assert isinstance(answer, Allowed)
    assert answer.buckets.tokens == Bucket(-300.0, 0.0)
    assert isinstance(decide(limits, Buckets(tokens=Bucket(599.0, 0.0)), 0, 0.0, 900), Refused)


def test_a_refusal_for_tokens_takes_no_request() -> None:
    limits = TenantLimits(rate_per_s=1.0, burst=1, tokens_per_min=60)
    empty = Buckets(tokens=Bucket(0.0, 0.0))
    refused = decide(limits, empty, 0, 0.0, 1)
    assert isinstance(refused, Refused)
    assert refused.standing.requests == Level(1, 1, 0.0)


def test_limits_survive_being_written_and_read() -> None:
    limits = TenantLimits(max_waiting=3, tokens_per_min=10)
    assert TenantLimits.of(limits.given() | {"of_a_later_release": 1}) == limits


@pytest.mark.parametrize(
    ("queued", "rate_per_s", "after_s"), [(10, 0.0, 1), (10, 4.0, 1), (29, 4.0, 5), (10_000, 1.0, 60)]
)
def test_a_full_queue_says_when_to_come_again(queued: int, rate_per_s: float, after_s: int) -> None:
    with pytest.raises(QueueFull, match=f"{queued} requests wait for model 'm'") as caught:
        check_queue("m", queued, 10, rate_per_s)
    assert caught.value.retry_after_s == after_s
    check_queue("m", 9, 10, rate_per_s)


@given(rate_per_s=st.floats(0.001, 1e4), left=st.floats(0, 0.99), at_s=_times)
def test_whoever_waits_as_told_is_let_in_unless_it_was_cut_to_a_minute(
    rate_per_s: float, left: float, at_s: float
) -> None:
    limits = TenantLimits(rate_per_s=rate_per_s, burst=1)
    refused = decide(limits, requests(left, at_s), 0, at_s)
    assert isinstance(refused, Refused)
    assert 1 <= refused.retry_after_s <= MAX_RETRY_AFTER_S
    if refused.retry_after_s < MAX_RETRY_AFTER_S:
        # A hair more: the sum of floats may fall short of one.
        later_s = at_s + refused.retry_after_s * (1 + 1e-6) + 1e-6
        assert isinstance(decide(limits, requests(left, at_s), 0, later_s), Allowed)


@given(steps=st.lists(st.floats(0, 5), max_size=60), rate_per_s=st.floats(0.1, 20), burst=st.integers(1, 10))
def test_never_more_than_the_burst_and_the_rate_together(
    steps: list[float], rate_per_s: float, burst: int
) -> None:
    limits = TenantLimits(rate_per_s=rate_per_s, burst=burst)
    buckets = FULL
    now_s, allowed = 0.0, 0
    for step in steps:
        now_s += step
        answer = decide(limits, buckets, 0, now_s)
        if isinstance(answer, Allowed):
            buckets, allowed = answer.buckets, allowed + 1
    assert allowed <= burst + rate_per_s * now_s + 1e-6
