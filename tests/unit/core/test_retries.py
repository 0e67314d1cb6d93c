"""The next attempt: when, and the same bytes with all that the first had by its place."""

import pytest

from headrace.contracts import headers as h
from headrace.contracts import requests
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import RequestHead
from headrace.contracts.topics import Lane, Topics
from headrace.core import retries
from headrace.core.ports import Place, Record

TOPICS = Topics()
LANE = TOPICS.requests("m", Lane.FLEX)
DELAYS = ("5s", "30s", "5m")


@pytest.mark.parametrize(
    ("attempt", "most", "left_s", "delays", "delay"),
    [
        (1, 3, 600, DELAYS, "5s"),
        (2, 3, 600, DELAYS, "30s"),
        (3, 3, 600, DELAYS, None),
        (5, 9, 600, DELAYS, "5m"),
        (2, 9, 600, ("5s",), "5s"),
        (1, 3, 5, DELAYS, None),
        (1, 3, 5.1, DELAYS, "5s"),
        (1, 1, 600, DELAYS, None),
        (1, 3, 600, (), None),
    ],
)
def test_delay(attempt, most, left_s, delays, delay):
    assert retries.delay_for(attempt, most, left_s, delays) == delay


def first(headers=None):
    return Record(Place(LANE, 3, 41), b"key", b'{"a":1}', headers or {}, 0)


def why(attempt=2, delay="5s", request_id="x"):
    return retries.Retry(
        RequestHead(request_id, "/s", attempt=attempt), "engine_failed", "boom", 600.0, delay
    )


def as_record(outgoing, place):
    return Record(place, outgoing.key, outgoing.value, dict(outgoing.headers), 0)


def test_there_and_back_is_the_same_request():
    sent = {h.CORRELATION_NAMES[0]: b"c", "traceparent": b"t", h.TENANT_ID: b"ten"}
    waiting = retries.retry(TOPICS, first(sent), why(), now_s=100.0)
    assert (waiting.topic, waiting.value, waiting.key) == (TOPICS.retries("5s"), b'{"a":1}', b"key")
    parked = as_record(waiting, Place(waiting.topic, 0, 0))
    assert retries.due_at_s(parked) == 105.0
    back = retries.back_to_lane(TOPICS, parked)
    assert (back.topic, back.value, back.key) == (LANE, b'{"a":1}', b"key")
    headers = dict(back.headers)
    assert h.NOT_BEFORE not in headers
    assert sent.items() <= headers.items()
    head = requests.read(headers, default_id="other")
    assert (head.id, head.attempt, head.expires_at_s) == ("x", 2, 600.0)


def test_the_third_attempt_still_says_where_it_came_from_and_names_nothing_twice():
    back = retries.back_to_lane(
        TOPICS, as_record(retries.retry(TOPICS, first(), why(), 0.0), Place("r", 0, 0))
    )
    again = retries.retry(TOPICS, as_record(back, Place(LANE, 5, 9)), why(3, "30s"), 0.0)
    names = [name for name, _ in again.headers]
    assert len(names) == len(set(names))
    headers = dict(again.headers)
    assert (headers[h.ATTEMPT], headers[h.ORIGIN_TOPIC]) == (b"3", LANE.encode())


def test_a_signature_keeps_the_bytes_that_it_covers():
    signed = {h.SIGNATURE: b"s", h.EXPIRY_TIME: b"2026-01-31T12:00:00Z"}
    headers = dict(retries.retry(TOPICS, first(signed), why(), 0.0).headers)
    assert headers[h.EXPIRY_TIME] == b"2026-01-31T12:00:00Z"


@pytest.mark.parametrize("headers", [{}, {h.NOT_BEFORE: b"soon"}])
def test_when_is_not_said(headers):
    with pytest.raises(InvalidRequest, match=h.NOT_BEFORE):
        retries.due_at_s(first(headers))


@pytest.mark.parametrize("origin", [None, b"elsewhere", TOPICS.results.encode(), b"\xff"])
def test_where_to_is_no_request_topic(origin):
    with pytest.raises(InvalidRequest, match=h.ORIGIN_TOPIC):
        retries.back_to_lane(TOPICS, first({h.ORIGIN_TOPIC: origin} if origin else {}))
