"""Where answers go."""

import pytest

from headrace.contracts import headers as h
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import stream_partition
from headrace.core.answers import Outcome, ReplyRules
from headrace.worker.replies import Replies

DONE = Outcome(State.COMPLETED, b'{"id":"x"}')


@pytest.fixture
def replies(log, topics):
    return Replies(log, ReplyRules(topics, ("replies.*",), "/workers/w", "echo"))


def head(topic=None, partition=None):
    address = None if topic is None else ReplyAddress(topic, partition)
    return RequestHead(id="r1", source="/t", reply=address, correlation=(("correlation_id", b"\x00\x07"),))


async def test_to_the_topic_that_was_asked_for(replies, log):
    reply = await replies.open(head("replies.here", 2), "1:w")
    await reply.chunk(b"a")
    await reply.chunk(b"b")
    await reply.finish(DONE)
    assert [(r.topic, r.partition, r.value) for r in log.records] == [
        ("replies.here", 2, b"a"),
        ("replies.here", 2, b"b"),
        ("replies.here", 2, DONE.value),
    ]
    told = [dict(record.headers) for record in log.records]
    assert [t[h.SEQUENCE] for t in told] == [b"00000000", b"00000001", b"00000002"]
    assert [t[h.FINAL] for t in told] == [b"false", b"false", b"true"]
    assert {t["correlation_id"] for t in told} == {b"\x00\x07"}
    assert len({t[h.ID] for t in told}) == 3


async def test_without_an_address_the_whole_goes_to_results_and_chunks_to_streams(replies, log, topics):
    reply = await replies.open(head(), "1:w")
    await reply.chunk(b"a")
    await reply.finish(DONE)
    assert [(r.topic, r.key, r.value) for r in log.records] == [
        (topics.streams, b"r1", b"a"),
        (topics.results, b"r1", DONE.value),
        (topics.streams, b"r1", DONE.value),
    ]
    assert {r.partition for r in log.records if r.topic == topics.streams} == {stream_partition(b"r1")}


async def test_without_chunks_nothing_goes_to_streams(replies, log, topics):
    await (await replies.open(head(), "1:w")).finish(DONE)
    assert [r.topic for r in log.records] == [topics.results]


async def test_a_kept_answer_is_in_results_before_it_is_with_its_caller(replies, log, topics):
    asked = head("replies.here")._replace(durable=True, tenant="a", webhook="https://there.test/")
    await (await replies.open(asked, "1:w")).finish(DONE)
    assert [r.topic for r in log.records] == [topics.results, "replies.here"]
    kept, sent = (dict(record.headers) for record in log.records)
    assert (kept[h.TENANT_ID], kept[h.WEBHOOK]) == (b"a", b"https://there.test/")
    assert h.WEBHOOK not in sent


@pytest.mark.parametrize(
    ("topic", "partition", "why"),
    [
        ("elsewhere", None, b"not allowed"),
        ("headrace.models", None, b"internal"),
        ("headrace.requests.echo.default", None, b"internal"),
        ("__consumer_offsets", None, b"internal"),
        ("headrace.replies", None, b"internal"),
        ("headrace.replies", 64, b"no partition 64"),
        ("replies.absent", None, b"does not exist"),
        ("replies.here", 9, b"no partition 9"),
    ],
)
async def test_an_address_that_cannot_be_used_is_said_on_the_result(
    replies, log, topics, topic, partition, why
):
    await (await replies.open(head(topic, partition), "1:w")).finish(DONE)
    (record,) = log.records
    assert record.topic == topics.results
    assert why in dict(record.headers)[h.REPLY_REFUSED]


async def test_a_gateways_partition_needs_no_permission(replies, log, topics):
    await (await replies.open(head(topics.replies, 5), "1:w")).finish(DONE)
    assert (log.records[0].topic, log.records[0].partition) == (topics.replies, 5)


async def test_the_answer_is_sent_until_kafka_has_it(replies, log, monkeypatch):
    monkeypatch.setattr("headrace.worker.replies._RETRY_S", (0.0,))
    log.fail(3)
    await (await replies.open(head("replies.here"), "1:w")).finish(DONE)
    assert len(log.records) == 1


async def test_an_answer_too_large_for_kafka_becomes_an_error(replies, log):
    await (await replies.open(head("replies.here"), "1:w")).finish(Outcome(State.COMPLETED, b"x" * 1_000_001))
    told = dict(log.records[0].headers)
    assert told[h.HTTP_STATUS] == b"413"
    assert b"body_too_large" in log.records[0].value


async def test_a_stranger_does_not_reach_a_gateways_partition(log, topics, replies):
    head = RequestHead(id="mine", source="/t", reply=ReplyAddress(topics.replies, 3))
    for trusted, topic in ((False, topics.results), (True, topics.replies)):
        await (await replies.open(head, "1:w", trusted=trusted)).finish(Outcome(State.COMPLETED, b"{}"))
        assert log.records[-1].topic == topic
