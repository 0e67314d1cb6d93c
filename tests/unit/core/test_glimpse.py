"""What a few that wait say of all."""

import pytest
from tests.unit.scaler.test_known import deployed

from headrace.contracts import headers as h
from headrace.contracts.topics import Lane, Topics
from headrace.core.glimpse import Seen, glimpse, seen
from headrace.core.ports import Place, Record
from headrace.core.sizing import Due


def request(value=b"{}", lane=Lane.DEFAULT, **headers):
    topic = Topics().requests("chat", lane)
    return Record(Place(topic, 0, 7), None, value, {f"ce_{k}": v for k, v in headers.items()}, 1_000_000)


def one(before, expires_at_s, lane=Lane.DEFAULT, at_s=0.0):
    return Seen(lane, before, at_s, expires_at_s, 100)


def alike(_):
    return 1.0, 110.0


def test_what_a_request_says_of_itself():
    found = seen(request(b'{"max_tokens": 12}', replytopic=b"replies.a"), 0.25, deployed())
    assert found == Seen(Lane.DEFAULT, 0.25, 1000.0, 1600.0, 18, 12)
    job = seen(request(lane=Lane.FLEX), 0.0, deployed())
    assert job.expires_at_s == 1000 + 0.9 * 7 * 86_400, "as long as its lane keeps it"
    soon = seen(request(expirytime=b"1970-01-01T00:20:00Z"), 0.0, deployed())
    assert (soon.expires_at_s, soon.max_tokens) == (1200.0, None)


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (b'{"max_completion_tokens":5}', 5),
        (b'{"max_output_tokens": 6}', 6),
        (b'{"content": "\\"max_tokens\\": 9"}', None),
        (b'{"max_tokens": null}', None),
        (None, None),
    ],
)
def test_the_limit_of_an_answer(value, limit):
    assert seen(request(value), 0.0, deployed()).max_tokens == limit


def test_what_cannot_be_read_says_nothing():
    assert seen(request(expirytime=b"tomorrow"), 0.0, deployed()) is None
    assert h.EXPIRY_TIME == "ce_expirytime"


def test_few_stand_for_all():
    found = glimpse(
        [one(0.0, 700.0, at_s=90.0), one(0.5, 700.0, at_s=95.0)], {Lane.DEFAULT: 100}, alike, 100.0
    )
    assert (found.at_s, found.size, found.tokens, found.oldest_s) == (100.0, 1.0, 110.0, 90.0)
    assert found.due(50.0, 110.0) == [Due(590.0, 50.0)]
    assert found.due(50.0, 700.0) == [], "too late for any of them"


def test_what_stands_before_must_be_done_as_well():
    few = [one(0.0, 9000.0), one(0.25, 9000.0), one(0.5, 160.0), one(0.75, 9000.0)]
    found = glimpse(few, {Lane.DEFAULT: 400}, alike, 100.0)
    assert found.due(400.0, 100.0) == [Due(60.0, 300.0), Due(8900.0, 400.0)]


def test_what_is_due_before_others_that_stand_in_front():
    few = [one(0.0, 150.0), one(0.5, 130.0)]
    assert glimpse(few, {Lane.DEFAULT: 10}, alike, 100.0).due(10.0, 100.0) == [Due(30.0, 10.0)]


def test_deadlines_near_one_another_are_one():
    few = [one(n / 100, 200.0 + n / 10) for n in range(100)]
    found = glimpse(few, {Lane.DEFAULT: 1000}, alike, 100.0)
    assert found.due(1.0, 100.0) == [Due(100.0, pytest.approx(1.0))]


def test_lanes_are_served_in_their_order_and_each_counts_as_much_as_waits_in_it():
    few = [one(0.0, 300.0, Lane.PRIORITY), one(0.5, 200.0, Lane.FLEX), one(0.0, 200.0, Lane.FLEX)]
    waiting = {Lane.PRIORITY: 10, Lane.FLEX: 30, Lane.DEFAULT: 99}
    assert glimpse(few, waiting, alike, 100.0).due(40.0, 100.0) == [Due(100.0, 40.0)]
    sized = glimpse(few, waiting, lambda each: (3.0 if each.lane is Lane.PRIORITY else 1.0, 0.0), 100.0)
    assert sized.size == pytest.approx((10 * 3 + 30) / 40)


def test_of_nothing_nothing_is_known():
    assert glimpse([one(0.0, 300.0)], {}, alike, 100.0).due(10.0, 100.0) == []
