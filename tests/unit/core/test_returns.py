"""Requests that come back, by model."""

from datetime import UTC, datetime

import pytest

from headrace.contracts import headers as h
from headrace.contracts.topics import Lane, Topics
from headrace.core.ports import Place, Record
from headrace.core.returns import Returns

TOPICS = Topics()


def waiting(offset, due_s, slug="chat", partition=0, delay="5s"):
    headers = {
        h.ORIGIN_TOPIC: TOPICS.requests(slug, Lane.DEFAULT).encode(),
        h.NOT_BEFORE: datetime.fromtimestamp(due_s, UTC).isoformat().encode(),
    }
    return Record(Place(TOPICS.retries(delay), partition, offset), None, b"{}", headers, 0)


@pytest.fixture
def returns():
    return Returns(TOPICS)


def test_times_by_model_the_soonest_first(returns):
    for record in (waiting(0, 30.0, delay="30s"), waiting(4, 5.0), waiting(5, 6.0, "other")):
        returns.take(record)
    assert returns.due() == {"chat": [5.0, 30.0], "other": [6.0]}


def test_what_was_put_back_waits_no_more(returns):
    for offset in range(5):
        returns.take(waiting(offset, float(offset)))
        returns.take(waiting(offset, float(offset), partition=1))
    returns.committed({(TOPICS.retries("5s"), 0): 3, (TOPICS.retries("30s"), 0): 9})
    assert returns.due() == {"chat": [0.0, 1.0, 2.0, 3.0, 3.0, 4.0, 4.0]}
    returns.committed({(TOPICS.retries("5s"), number): 5 for number in (0, 1)})
    assert not returns
    assert returns.due() == {}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {h.ORIGIN_TOPIC: b"headrace.requests.chat.default"},
        {h.NOT_BEFORE: b"2026-01-01T00:00:00Z", h.ORIGIN_TOPIC: b"elsewhere"},
        {h.NOT_BEFORE: b"soon", h.ORIGIN_TOPIC: b"headrace.requests.chat.default"},
    ],
)
def test_what_cannot_be_read_is_for_the_dispatcher(returns, headers):
    returns.take(Record(Place(TOPICS.retries("5s"), 0, 0), None, b"{}", headers, 0))
    assert not returns
