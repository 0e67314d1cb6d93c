"""Webhooks: who is told what, how it is signed, and what follows an attempt."""

from dataclasses import replace

import orjson
import pytest

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.core.webhooks import (
    EVENTS,
    SCHEDULE_S,
    Attempt,
    Delivery,
    DeliveryState,
    Endpoint,
    follow,
    new_secret,
    signed,
    told,
    verify,
)

RESULT = FinalResult(
    request_id="req_01",
    state=State.COMPLETED,
    http_status=200,
    model="m",
    content_type="application/json",
    body=b"{}",
    created_at_s=1_000.5,
    expires_at_s=9_000.0,
    tenant="acme",
    path="/v1/chat/completions",
)
ENDPOINT = Endpoint(
    id="we_1",
    tenant="acme",
    name="n",
    url="https://there.test/hook",
    events=EVENTS,
    secret=new_secret(b"s" * 32),
    created_at_s=1.0,
)


def one(result: FinalResult = RESULT, endpoint: Endpoint = ENDPOINT) -> Delivery:
    (found,) = told(result, [endpoint])
    return found


def test_the_body_is_thin_and_the_same_however_often_it_is_made() -> None:
    made = one()
    assert orjson.loads(made.body) == {
        "id": made.id,
        "object": "event",
        "created_at": 1000,
        "type": "job.completed",
        "data": {"id": "req_01"},
    }
    assert one() == made
    assert "." not in made.id
    assert one(replace(RESULT, request_id="req_02")).id != made.id


@pytest.mark.parametrize(
    "state", [State.COMPLETED, State.INCOMPLETE, State.FAILED, State.CANCELLED, State.EXPIRED]
)
def test_every_end_has_an_event_that_endpoints_can_ask_for(state: State) -> None:
    assert one(replace(RESULT, state=state)).type in EVENTS
    response = one(replace(RESULT, state=state, path="/v1/responses"))
    assert response.type in EVENTS
    assert response.subject_id == "resp_01"
    assert response.type.startswith("response.")


def test_who_is_told() -> None:
    for other in (
        replace(ENDPOINT, tenant="other"),
        replace(ENDPOINT, enabled=False),
        replace(ENDPOINT, url=""),
        replace(ENDPOINT, events=("job.failed",)),
    ):
        assert list(told(RESULT, [other])) == []
    asked = replace(RESULT, webhook="https://elsewhere.test/")
    assert [each.endpoint_id for each in told(asked, [ENDPOINT])] == [None, "we_1"]
    assert list(told(replace(asked, batch_id="batch_1", line=3), [ENDPOINT])) == []


def test_signatures_are_verified() -> None:
    made = one()
    headers = signed(made, ENDPOINT.secrets(0), 5_000.7)
    assert headers["webhook-timestamp"] == "5000"
    verify(ENDPOINT.secret, headers, made.body, 5_100)
    with pytest.raises(InvalidRequest, match="old"):
        verify(ENDPOINT.secret, headers, made.body, 5_400)
    for wrong in (
        (new_secret(b"x" * 32), headers, made.body),
        (ENDPOINT.secret, headers, made.body + b" "),
        (ENDPOINT.secret, headers | {"webhook-id": "evt_2"}, made.body),
        (ENDPOINT.secret, headers | {"webhook-signature": "v2,abc"}, made.body),
    ):
        with pytest.raises(InvalidRequest, match="No signature"):
            verify(*wrong, 5_000)
    with pytest.raises(InvalidRequest, match="as they must be"):
        verify(ENDPOINT.secret, {}, made.body, 5_000)


def test_after_a_rotation_both_secrets_sign_for_a_while() -> None:
    made, new = one(), new_secret(b"n" * 32)
    rotated = replace(ENDPOINT, secret=new, old_secret=ENDPOINT.secret, old_until_s=6_000)
    headers = signed(made, rotated.secrets(5_000), 5_000)
    for secret in (new, ENDPOINT.secret):
        verify(secret, headers, made.body, 5_000)
    late = signed(made, rotated.secrets(6_000), 6_000)
    verify(new, late, made.body, 6_000)
    with pytest.raises(InvalidRequest):
        verify(ENDPOINT.secret, late, made.body, 6_000)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_what_is_delivered(status: int) -> None:
    assert follow(Attempt(1, 0, 1, status), 0).state is DeliveryState.DELIVERED


@pytest.mark.parametrize(
    "attempt", [Attempt(1, 100, 1, 500), Attempt(1, 100, 1, 301), Attempt(1, 100, 1, None, "x")]
)
def test_what_is_tried_again(attempt: Attempt) -> None:
    then = follow(attempt, 0)
    assert (then.state, then.next_at_s) == (DeliveryState.PENDING, 105)
    assert 105 < (follow(attempt, 1).next_at_s or 0) <= 105.5


def test_the_schedule_is_three_days_long_and_ends() -> None:
    at_s, number = 0.0, 1
    while (then := follow(Attempt(number, at_s, 1, 500), 0)).state is DeliveryState.PENDING:
        assert then.next_at_s is not None
        at_s, number = then.next_at_s, number + 1
    assert then.state is DeliveryState.FAILED
    assert (number, at_s) == (10, sum(SCHEDULE_S))
    assert 72 * 3600 < at_s < 80 * 3600


def test_what_the_receiver_says() -> None:
    gone = follow(Attempt(1, 0, 1, 410), 0)
    assert (gone.state, gone.disables) == (DeliveryState.FAILED, True)
    assert follow(Attempt(1, 0, 1, 503, retry_after_s=60), 0).next_at_s == 60
    assert follow(Attempt(1, 0, 1, 503, retry_after_s=1), 0).next_at_s == 5
    assert follow(Attempt(1, 0, 1, 503, retry_after_s=1e9), 0).next_at_s == SCHEDULE_S[-1]
