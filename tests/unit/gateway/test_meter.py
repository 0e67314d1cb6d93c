"""What accounts use in a day: here, and at all gateways."""

import pytest
from tests.unit.gateway.parts import Gateway, deployed, whole

from headrace.contracts.errors import QuotaSpent, Unavailable
from headrace.core.limits import TenantLimits
from headrace.core.quotas import DAY_S, Spent
from headrace.gateway.meter import Meter
from headrace.gateway.tenants import Account
from headrace.settings import GatewaySettings

ACME = Account(b"acme")
ANSWER = b'{"usage":{"prompt_tokens":7,"completion_tokens":5}}'


class Ledger:
    """What `store.usage.Usage` does, in a dictionary; the real one has its contract's tests."""

    def __init__(self):
        self.days = {}
        self.fault = None
        self.during = lambda: None

    async def add(self, day, spent):
        if self.fault is not None:
            raise self.fault
        for name, more in spent.items():
            self.days[day, name] = self.days.get((day, name), Spent()).plus(more)
        self.during()

    async def of(self, day, accounts):
        return {name: self.days[day, name] for name in accounts if (day, name) in self.days}


class Clock:
    now_s = 20_000.0 * DAY_S

    def __call__(self):
        return self.now_s


def meter(clock=None, **settings):
    return Meter(
        GatewaySettings(**{f"tenant_{name}": value for name, value in settings.items()}), clock or Clock()
    )


def take(found, number=1, account=ACME):
    for _ in range(number):
        found.check(account)
        found.took(account)


async def test_gateways_count_together():
    ledger, one, other = Ledger(), meter(requests_per_day=5), meter(requests_per_day=5)
    take(one, 3)
    take(other, 2)
    for each in (one, other, one):
        await each.flush(ledger)
    for each in (one, other):
        with pytest.raises(QuotaSpent, match="Tenant 'acme' has used up"):
            each.check(ACME)
    one.check(Account(b"another"))


async def test_what_is_taken_while_the_ledger_is_written_is_not_forgotten():
    ledger, found = Ledger(), meter(requests_per_day=5)
    take(found, 3)
    ledger.during = lambda: take(found)
    await found.flush(ledger)
    ledger.during = lambda: None
    take(found)
    with pytest.raises(QuotaSpent):
        found.check(ACME)
    await found.flush(ledger)
    assert ledger.days == {(20_000, "tenant/acme"): Spent(5, 0)}


async def test_a_ledger_that_does_not_serve_loses_nothing(caplog):
    ledger, found = Ledger(), meter(requests_per_day=5)
    ledger.fault = Unavailable("the database is away")
    take(found, 4)
    for _ in range(3):
        await found.flush(ledger)
    assert caplog.text.count("the database is away") == 1
    ledger.fault = None
    await found.flush(ledger)
    assert ledger.days[20_000, "tenant/acme"] == Spent(4, 0)
    take(found)
    with pytest.raises(QuotaSpent):
        found.check(ACME)


async def test_tokens_are_the_answers_or_likely():
    found = meter(tokens_per_day=20)
    take(found)
    found.used(ACME, 400, ANSWER)
    found.check(ACME)
    found.used(ACME, 40, b'{"object":"list"}')
    with pytest.raises(QuotaSpent, match="20 tokens"):
        found.check(ACME)


async def test_a_new_day_is_a_new_quota():
    clock = Clock()
    ledger, found = Ledger(), meter(clock, requests_per_day=1)
    take(found)
    await found.flush(ledger)
    with pytest.raises(QuotaSpent):
        found.check(ACME)
    clock.now_s += DAY_S
    take(found)
    await found.flush(ledger)
    assert ledger.days == {(20_000, "tenant/acme"): Spent(1, 0), (20_001, "tenant/acme"): Spent(1, 0)}


async def test_a_key_with_a_quota_is_counted_alone():
    ledger, found = Ledger(), meter(requests_per_day=1)
    key = Account(b"acme", "key_1", TenantLimits(requests_per_day=2))
    take(found, 2, key)
    take(found)
    await found.flush(ledger)
    assert ledger.days == {(20_000, "key_1"): Spent(2, 0), (20_000, "tenant/acme"): Spent(1, 0)}
    with pytest.raises(QuotaSpent, match="API key key_1 has"):
        found.check(key)


async def test_whom_nothing_limits_nobody_counts():
    ledger, found = Ledger(), meter()
    take(found, 3)
    found.used(ACME, 400, ANSWER)
    await found.flush(ledger)
    assert ledger.days == {}


async def test_who_is_over_is_refused_and_told_not_to_try_again():
    gateway = Gateway(deployed(), tenant_requests_per_day=2)
    gateway.answer_with(whole())
    assert [(await gateway.ask()).status_code for _ in range(2)] == [200, 200]
    response = await gateway.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (429, "insufficient_quota")
    assert response.json()["error"]["type"] == "insufficient_quota"
    # Midnight may be near: then it is worth waiting for.
    assert (response.headers.get("x-should-retry") == "false") != ("retry-after" in response.headers)
    assert len(gateway.kafka.sent) == 2


async def test_what_an_answer_took_is_counted_through_the_gateway():
    gateway = Gateway(deployed(), tenant_tokens_per_day=20)
    gateway.answer_with(ANSWER)  # twelve tokens
    assert [(await gateway.ask()).status_code for _ in range(3)] == [200, 200, 429]
