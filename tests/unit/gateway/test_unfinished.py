"""How many jobs of a tenant may be unfinished."""

import pytest

from headrace.contracts.errors import QueueFull, Unavailable
from headrace.gateway.tenants import NOBODY, Account
from headrace.gateway.unfinished import Unfinished

ACME = Account(b"acme")


class Index:
    def __init__(self, **found):
        self.found = found
        self.fault = None
        self.during = lambda: None

    async def unfinished(self):
        if self.fault is not None:
            raise self.fault
        self.during()
        return self.found


async def test_the_number_is_what_sql_said_and_what_was_sent_since():
    found, index = Unfinished(5), Index(acme=3)
    await found.refresh(index)
    found.check(ACME)
    found.sent(ACME)
    found.check(ACME)
    found.sent(ACME)
    with pytest.raises(QueueFull, match="Tenant 'acme' has 5 unfinished jobs"):
        found.check(ACME)
    found.check(NOBODY)
    index.found = {"acme": 4}
    await found.refresh(index)
    found.check(ACME)


async def test_what_is_sent_while_sql_is_read_counts_until_the_next_reading():
    found, index = Unfinished(1), Index()
    index.during = lambda: found.sent(ACME)
    await found.refresh(index)
    with pytest.raises(QueueFull):
        found.check(ACME)


async def test_a_database_that_does_not_serve_leaves_the_number(caplog):
    found, index = Unfinished(2), Index(acme=2)
    await found.refresh(index)
    index.fault = Unavailable("it is away")
    for _ in range(3):
        await found.refresh(index)
    with pytest.raises(QueueFull):
        found.check(ACME)
    assert caplog.text.count("it is away") == 1


def test_without_a_limit_there_may_be_any_number():
    found = Unfinished(None)
    for _ in range(100):
        found.check(ACME)
        found.sent(ACME)
