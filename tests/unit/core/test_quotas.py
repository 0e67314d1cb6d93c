"""A day's quota, and how many jobs may be unfinished."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.errors import QueueFull, QuotaSpent
from headrace.core.limits import TenantLimits
from headrace.core.quotas import (
    DAY_S,
    Spent,
    check_jobs,
    check_quota,
    day_of,
    heeded_retry_after_s,
    tenant_account,
)

NOON_S = 20_000 * DAY_S + DAY_S / 2


@pytest.mark.parametrize(
    ("limits", "spent", "reached"),
    [
        (TenantLimits(requests_per_day=3), Spent(3, 0), "3 requests"),
        (TenantLimits(requests_per_day=3, tokens_per_day=9), Spent(2, 10), "9 tokens"),
        (TenantLimits(requests_per_day=3), Spent(4, 0), "3 requests"),
    ],
)
def test_who_has_used_up_its_day_is_told_when_the_next_begins(limits, spent, reached):
    with pytest.raises(QuotaSpent, match=f"Tenant 'a' has used up the day's quota of {reached}") as caught:
        check_quota("Tenant 'a' has", limits, spent, NOON_S)
    assert caught.value.retry_after_s == DAY_S / 2
    assert (caught.value.kind.http_status, caught.value.code) == (429, "insufficient_quota")


@pytest.mark.parametrize(
    ("limits", "spent"),
    [
        (TenantLimits(), Spent(10**9, 10**12)),
        (TenantLimits(requests_per_day=3), Spent(2, 10**12)),
        (TenantLimits(tokens_per_day=9), Spent(10**9, 8)),
    ],
)
def test_what_is_left_may_be_used(limits, spent):
    check_quota("It has", limits, spent, NOON_S)


@given(st.floats(0, 4e9))
def test_the_next_day_is_at_most_a_day_away_and_never_over(now_s):
    with pytest.raises(QuotaSpent) as caught:
        check_quota("It has", TenantLimits(requests_per_day=1), Spent(1, 0), now_s)
    after_s = caught.value.retry_after_s
    assert 1 <= after_s <= DAY_S
    assert day_of(now_s + after_s) == day_of(now_s) + 1


def test_clients_are_told_to_wait_only_for_as_long_as_they_would():
    assert (heeded_retry_after_s(60), heeded_retry_after_s(61)) == (60, None)


def test_jobs_are_refused_when_there_are_as_many_as_may_be():
    check_jobs("Tenant 'a' has", 4, 5)
    with pytest.raises(QueueFull, match="Tenant 'a' has 5 unfinished jobs"):
        check_jobs("Tenant 'a' has", 5, 5)


def test_no_tenant_has_the_account_of_a_key():
    assert tenant_account("key_1") != "key_1"
