"""Request headers: there and back, every name in use, and what is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts import headers as h
from headrace.contracts import requests
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import COMPLETIONS, PATHS, ReplyAddress, RequestHead

_text = st.text(min_size=1, max_size=40)
_heads = st.builds(
    RequestHead,
    id=_text,
    source=_text,
    path=st.sampled_from(PATHS),
    reply=st.none() | st.builds(ReplyAddress, topic=_text, partition=st.none() | st.integers(0, 999_999)),
    correlation=st.just(()) | st.tuples(st.tuples(st.just(h.CORRELATION_ID), st.binary(max_size=16))),
    # Times are written with microseconds.
    expires_at_s=st.none() | st.integers(0, 4_000_000_000).map(float),
    tenant=st.none() | _text,
    batch_id=st.none() | _text,
    attempt=st.integers(1, 999_999_999),
    accept=st.none() | _text,
    webhook=st.none() | _text,
    durable=st.booleans(),
)


@given(head=_heads)
def test_what_is_written_is_read(head: RequestHead) -> None:
    assert requests.read(h.as_dict(requests.write(head)), default_id="t-0-1") == head


def test_no_header_at_all_is_a_request() -> None:
    assert requests.read({}, default_id="t-0-1") == RequestHead(id="t-0-1", source="unknown")


@pytest.mark.parametrize("name", h.REPLY_TOPIC_NAMES)
def test_every_name_of_the_reply_topic(name: str) -> None:
    assert requests.read({name: b"replies.me"}, default_id="x").reply == ReplyAddress("replies.me")


@pytest.mark.parametrize("name", h.REPLY_PARTITION_NAMES)
@pytest.mark.parametrize(
    ("value", "partition"),
    [(b"7", 7), (b"12", 12), (b"1234", 1234), (b"\0\0\0\x07", 7), (b"\0\0\x01\0", 256), (b"\0\x0012", 12594)],
)
def test_partitions_in_digits_and_in_four_bytes(name: str, value: bytes, partition: int) -> None:
    head = requests.read({"reply_to": b"t", name: value}, default_id="x")
    assert head.reply == ReplyAddress("t", partition)


def test_a_partition_without_a_topic_means_nothing() -> None:
    assert requests.read({h.REPLY_PARTITION: b"7"}, default_id="x").reply is None


def test_our_own_names_come_first_and_empty_ones_count_as_absent() -> None:
    headers = {"reply_to": b"b", h.REPLY_TOPIC: b"a", "REPLY_TOPIC": b"c"}
    assert requests.address(headers) == ReplyAddress("a")
    assert requests.address({**headers, h.REPLY_TOPIC: b""}) == ReplyAddress("b")


def test_correlations_come_back_byte_for_byte_under_their_own_names() -> None:
    given_headers = {name: b"\xff\0" + name.encode() for name in h.CORRELATION_NAMES}
    assert dict(requests.read(given_headers, default_id="x").correlation) == given_headers


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        ({h.ID: b"\xff"}, h.ID),
        ({h.ID: b"x" * 257}, h.ID),
        ({"reply_to": b"\xff\xfe"}, h.REPLY_TOPIC),
        ({"reply_to": b"t", "kafka_replyPartition": b"seven"}, h.REPLY_PARTITION),
        ({"reply_to": b"t", h.REPLY_PARTITION: b"-1"}, h.REPLY_PARTITION),
        ({"reply_to": b"t", h.REPLY_PARTITION: b"1234567"}, h.REPLY_PARTITION),
        ({h.API_PATH: b"/v1/rerank"}, h.API_PATH),
        ({h.ATTEMPT: b"two"}, h.ATTEMPT),
        ({h.ATTEMPT: b"1" * 10}, h.ATTEMPT),
        ({h.EXPIRY_TIME: b"soon"}, h.EXPIRY_TIME),
        ({h.EXPIRY_TIME: b"2026-01-31T12:00:00"}, h.EXPIRY_TIME),
        ({h.TENANT_ID: b"t" * 1025}, h.TENANT_ID),
    ],
)
def test_headers_that_cannot_be_understood_are_named(headers: dict[str, bytes], param: str) -> None:
    with pytest.raises(InvalidRequest, match=param) as raised:
        requests.read(headers, default_id="x")
    assert raised.value.param == param


def test_a_deadline_with_a_final_z() -> None:
    head = requests.read(
        {h.EXPIRY_TIME: b"2026-01-31T12:00:00Z", h.API_PATH: COMPLETIONS.encode()}, default_id="x"
    )
    assert (head.expires_at_s, head.path) == (1_769_860_800.0, COMPLETIONS)


@given(
    headers=st.dictionaries(
        st.sampled_from([h.ID, h.SOURCE, h.API_PATH, h.ATTEMPT, h.EXPIRY_TIME, h.TENANT_ID, "reply_to",
                         "REPLY_PARTITION", "kafka_correlationId"]),
        st.binary(max_size=12),
    )
)  # fmt: skip
def test_any_bytes_are_read_or_refused(headers: dict[str, bytes]) -> None:
    with suppress(InvalidRequest):
        requests.read(headers, default_id="x")
