"""Results that Kafka does not take: kept elsewhere, or refused with a reason."""

import asyncio

import pytest

from headrace.contracts import claims
from headrace.contracts import headers as h
from headrace.contracts.errors import BodyTooLarge, Unavailable
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.core.answers import Outcome, ReplyRules
from headrace.worker.claims import Keeper
from headrace.worker.replies import Replies

LARGE = b"x" * 1_000_001
DONE = Outcome(State.COMPLETED, LARGE)


class Store:
    """Fills `ClaimStore`."""

    bucket = "b"

    def __init__(self):
        self.kept = {}
        self.asked = 0
        self.failures = 0

    async def put(self, made, body, timeout_s):
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise Unavailable("S3 is away")
        claim = claims.claim(made, self.bucket, body, 0.0)
        self.kept[claim.key] = body
        return claim


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def replies(log, topics, store):
    return replies_with(log, topics, Keeper(store, 2_000_000))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    for module in ("claims", "replies"):
        monkeypatch.setattr(f"headrace.worker.{module}._RETRY_S", (0.0,))


def replies_with(log, topics, keeper):
    return Replies(log, ReplyRules(topics, ("replies.*",), "/workers/w", "org/echo"), keeper)


async def answer(replies, outcome, topic="replies.here", correlation=b"c"):
    head = RequestHead("r1", "/t", reply=ReplyAddress(topic), correlation=(("correlation_id", correlation),))
    reply = await replies.open(head, "1:w")
    await reply.chunk(b"a")
    await reply.finish(outcome)


@pytest.mark.parametrize("state", [State.COMPLETED, State.INCOMPLETE])
async def test_a_large_result_is_kept_and_its_caller_gets_the_reference(replies, log, store, state):
    await answer(replies, Outcome(state, LARGE))
    record = log.records[-1]
    told = h.as_dict(record.headers)
    claim = claims.read(told, "b")
    assert store.kept == {claim.key: LARGE}
    assert record.value == claims.pointer(claim)
    assert (told[h.HTTP_STATUS], told[h.SEQUENCE], told[h.FINAL]) == (b"200", b"00000001", b"true")
    assert told["correlation_id"] == b"c"
    assert told[h.TYPE].decode() == f"headrace.inference.{state}.v1"
    assert "/org--secho/" in claim.key


async def test_a_result_that_fits_asks_for_no_bucket(replies, log, store):
    await answer(replies, Outcome(State.COMPLETED, b"{}"))
    assert store.asked == 0
    assert h.DATA_REF not in h.as_dict(log.records[-1].headers)


async def test_a_large_error_is_shortened_and_not_kept(replies, log, store):
    await answer(replies, Outcome(State.FAILED, LARGE, 500))
    assert store.asked == 0
    assert b"body_too_large" in log.records[-1].value


async def test_kafka_away_after_the_upload_does_not_upload_again(replies, log, store):
    log.failures += [BodyTooLarge("large"), Unavailable("away"), Unavailable("away")]
    await answer_without_chunk(replies)
    assert store.asked == 1
    assert h.DATA_REF in h.as_dict(log.records[-1].headers)


async def answer_without_chunk(replies):
    reply = await replies.open(RequestHead("r1", "/t", reply=ReplyAddress("replies.here")), "1:w")
    await reply.finish(DONE)


async def test_a_bucket_that_comes_back_is_waited_for(replies, log, store):
    store.failures = 3
    await answer(replies, DONE)
    assert store.asked == 4
    assert h.as_dict(log.records[-1].headers)[h.HTTP_STATUS] == b"200"


async def test_a_bucket_that_stays_away_ends_in_a_clear_failure(replies, log, store, monkeypatch):
    monkeypatch.setattr("headrace.worker.claims._PATIENCE_S", 0.0)
    store.failures = 1_000
    await answer(replies, DONE)
    record = log.records[-1]
    assert h.as_dict(record.headers)[h.HTTP_STATUS] == b"503"
    assert b"the bucket to keep it in could not be used" in record.value


@pytest.mark.parametrize(
    ("limit_bytes", "has_store", "named"),
    [
        (1_000_000, True, b"HEADRACE_WORKER_MAX_RESULT_BYTES"),
        (2_000_000, False, b"HEADRACE_S3_BUCKET"),
    ],
)
async def test_what_may_not_be_kept_names_the_setting(log, topics, store, limit_bytes, has_store, named):
    await answer(replies_with(log, topics, Keeper(store if has_store else None, limit_bytes)), DONE)
    record = log.records[-1]
    assert h.as_dict(record.headers)[h.HTTP_STATUS] == b"413"
    assert named in record.value
    assert store.asked == 0


async def test_giant_correlation_headers_are_what_is_left_out(replies, log, store, monkeypatch):
    send = log.send

    async def send_measured(record):
        if sum(len(value) for _, value in record.headers) > 900_000:
            raise BodyTooLarge("headers too large")
        return await send(record)

    monkeypatch.setattr(log, "send", send_measured)
    async with asyncio.timeout(30):
        reply = await replies.open(
            RequestHead("r1", "/t", correlation=(("correlation_id", b"c" * 950_000),)), "1:w"
        )
        await reply.finish(Outcome(State.FAILED, b"{}", 500))
    assert "correlation_id" not in h.as_dict(log.records[-1].headers)


async def test_a_topic_that_takes_not_even_the_reference_is_not_asked_for_ever(
    replies, log, topics, store, monkeypatch
):
    send = log.send

    async def send_measured(record):
        if record.topic == "replies.here":
            raise BodyTooLarge("this topic takes ten bytes")
        return await send(record)

    monkeypatch.setattr(log, "send", send_measured)
    async with asyncio.timeout(30):
        await answer_without_chunk(replies)
    record = log.records[-1]
    told = h.as_dict(record.headers)
    assert record.topic == topics.results
    assert b"replies.here" in told[h.REPLY_REFUSED]
    assert claims.read(told, "b") is not None
