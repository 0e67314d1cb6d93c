"""Whom a reader believes."""

import pytest

from headrace.contracts import headers as h
from headrace.contracts import identity, requests
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import ReplyAddress
from headrace.contracts.topics import Lane, Topics
from headrace.core.identity import Trust, believed, internal_reply_refusal, may_cancel
from headrace.core.ports import Place, Record
from headrace.core.retries import Retry, retry

SECRET = "0123456789abcdef"
KEY = identity.signing_key(SECRET)
TOPICS = Topics()


def from_gateway(**changes: bytes) -> dict[str, bytes]:
    headers = {h.ID: b"req_1", h.TENANT_ID: b"acme", h.EXPIRY_TIME: b"2030-01-01T00:00:00Z"}
    headers[h.SIGNATURE] = identity.sign(KEY, identity.claims_of(headers, "chat"))
    return headers | changes


def head_of(headers: dict[str, bytes], trust: Trust) -> requests.RequestHead:
    head = requests.read(headers, default_id="t-0-0")
    return believed(head, trusted=trust.judge(headers, "chat"))


def test_a_gateways_word_is_a_fact() -> None:
    head = head_of(from_gateway(), Trust(KEY))
    assert (head.id, head.tenant) == ("req_1", "acme")


@pytest.mark.parametrize("changes", [{h.TENANT_ID: b"rich"}, {h.ID: b"req_2"}, {h.SIGNATURE: b"0" * 32}])
def test_a_strangers_gateway_id_is_refused_with_a_sentence(changes: dict[str, bytes]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        head_of(from_gateway(**changes), Trust(KEY))
    assert caught.value.param == h.ID
    assert caught.value.message == "ids that begin with req_ are made by gateways; choose another ce_id"


def test_a_strangers_tenant_is_no_tenant_and_the_rest_stays() -> None:
    headers = {h.ID: b"mine", h.TENANT_ID: b"acme", h.CORRELATION_ID: b"7"}
    head = head_of(headers, Trust(KEY))
    assert (head.id, head.tenant, head.correlation) == ("mine", None, ((h.CORRELATION_ID, b"7"),))
    assert head_of({}, Trust(KEY)).id == "t-0-0"


def test_without_the_secret_all_are_taken_at_their_word() -> None:
    trust = Trust.from_secret(None)
    head = head_of({h.ID: b"req_2", h.TENANT_ID: b"acme"}, trust)
    assert (head.id, head.tenant) == ("req_2", "acme")
    assert trust.judge_cancel({}, "req_2")


def test_the_secret_makes_the_gateways_key() -> None:
    assert Trust.from_secret(SECRET) == Trust(KEY)


@pytest.mark.parametrize(
    ("address", "trusted", "word"),
    [
        (ReplyAddress(TOPICS.replies, 3), True, None),
        (ReplyAddress(TOPICS.replies, 3), False, "for gateways"),
        (ReplyAddress(TOPICS.replies), True, "needs a partition"),
        (ReplyAddress(TOPICS.models, 0), True, "is internal"),
        (ReplyAddress("__consumer_offsets", 0), False, "is internal"),
        (ReplyAddress("replies.mine"), False, None),
    ],
)
def test_internal_topics_take_answers_for_gateways_only(
    address: ReplyAddress, trusted: bool, word: str | None
) -> None:
    refusal = internal_reply_refusal(TOPICS, address, trusted=trusted)
    assert (refusal is None) if word is None else (refusal is not None and word in refusal)


@pytest.mark.parametrize("request_trusted", [True, False])
@pytest.mark.parametrize("cancel_trusted", [True, False])
def test_a_stranger_cancels_strangers_only(cancel_trusted: bool, request_trusted: bool) -> None:
    counts = may_cancel(cancel_trusted=cancel_trusted, request_trusted=request_trusted)
    assert counts is (cancel_trusted or not request_trusted)


def test_a_cancel_is_judged_by_its_request() -> None:
    headers = {h.SIGNATURE: identity.sign_cancel(KEY, b"req_1")}
    assert Trust(KEY).judge_cancel(headers, "req_1")
    assert not Trust(KEY).judge_cancel(headers, "req_2")
    assert not Trust(KEY).judge_cancel({}, "req_1")


def test_a_signature_lasts_from_one_attempt_to_the_next() -> None:
    headers = from_gateway()
    record = Record(Place(TOPICS.requests("chat", Lane.DEFAULT), 0, 7), None, b"{}", headers, 0)
    head = requests.read(headers, default_id="t-0-0")
    why = Retry(head._replace(attempt=2), "engine_failed", "it broke", expires_at_s=1.9e9, delay="5s")
    again = retry(TOPICS, record, why, now_s=1.8e9)
    assert Trust(KEY).judge(h.as_dict(again.headers or []), "chat")
