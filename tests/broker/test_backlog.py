"""What workers have still to do, counted on a real broker."""

import asyncio
from collections import Counter

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import CoordinatorLoadInProgressError, NodeNotReadyError
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import OffsetAndMetadata

from headrace.contracts.errors import Unavailable
from headrace.contracts.topics import Lane
from headrace.core.ports import Outgoing
from headrace.kafka import backlog
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.work import WorkConsumer, WorkTopics

pytestmark = pytest.mark.broker


@pytest.fixture
async def admin(settings):
    async with Admin(settings.kafka) as admin:
        yield admin


@pytest.fixture
async def publish(settings, model):
    producer = Producer(settings.kafka, source="test")
    await producer.start()

    async def send(count, lane=Lane.DEFAULT, partition=0):
        topic = settings.kafka.topics.requests("echo", lane)
        receipts = [await producer.send(Outgoing(topic, b"{}", partition=partition)) for _ in range(count)]
        await asyncio.gather(*receipts)

    yield send
    await producer.stop()


@pytest.fixture
async def commit(settings, broker):
    """Commits as any tool could that is no member of the group."""

    async def commit(partition, offset, metadata=""):
        topics = settings.kafka.topics
        part = TopicPartition(topics.requests("echo", Lane.DEFAULT), partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=broker, group_id=topics.group("echo"), enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign([part])
            await consumer.commit({part: OffsetAndMetadata(offset, metadata)})
        finally:
            await consumer.stop()

    return commit


def waiting(found):
    return {
        (row.lane, row.partition): (row.requests, row.lag) for row in found.rows if row.requests or row.lag
    }


async def test_empty_topics_have_none(admin, model):
    found = await admin.backlog("echo")
    assert waiting(found) == {}
    assert [(row.lane, row.partition) for row in found.rows] == [(lane, n) for lane in Lane for n in range(4)]


async def test_what_waits_is_counted_by_lane_and_partition(admin, publish):
    await publish(3, Lane.PRIORITY, partition=1)
    await publish(5, partition=0)
    await publish(7, Lane.FLEX, partition=3)
    assert waiting(await admin.backlog("echo")) == {
        (Lane.PRIORITY, 1): (3, 3),
        (Lane.DEFAULT, 0): (5, 5),
        (Lane.FLEX, 3): (7, 7),
    }


async def test_what_was_finished_out_of_order_is_lag_and_no_backlog(settings, admin, publish):
    await publish(10, partition=2)
    worker = WorkConsumer(settings, WorkTopics(settings.kafka.topics, "echo"), "one")
    await worker.start()
    try:
        running = []
        async with asyncio.timeout(20):
            while len(running) < 10:
                running += await worker.take(10, 0.1)
        for record in running:
            if record.place.offset not in (2, 7):
                worker.complete(record.place)
        await worker.commit(5.0)
        assert waiting(await admin.backlog("echo")) == {(Lane.DEFAULT, 2): (2, 8)}
        for record in running:
            worker.complete(record.place)
        await worker.commit(5.0)
        assert waiting(await admin.backlog("echo")) == {}
    finally:
        await worker.stop()


async def test_what_retention_removed_waits_for_nobody(settings, admin, publish):
    await publish(10)
    part = TopicPartition(settings.kafka.topics.requests("echo", Lane.DEFAULT), 0)
    await admin._raw.delete_records({part: RecordsToDelete(before_offset=6)})
    assert waiting(await admin.backlog("echo")) == {(Lane.DEFAULT, 0): (4, 10)}


async def test_a_group_without_commits_begins_at_the_oldest_record(settings, admin, publish):
    plans = settings.kafka.topics.request_plans("new", 1)
    await admin.ensure_topics(plans)
    producer = Producer(settings.kafka, source="test")
    await producer.start()
    for _ in range(4):
        await (await producer.send(Outgoing(plans[0].name, b"{}")))
    await producer.stop()
    await admin._raw.delete_records({TopicPartition(plans[0].name, 0): RecordsToDelete(before_offset=1)})
    assert waiting(await admin.backlog("new")) == {(Lane.PRIORITY, 0): (3, 3)}


@pytest.mark.parametrize("metadata", ["moved by hand", "2:not base64!", "2:;x"])
async def test_metadata_of_other_tools_says_nothing(admin, publish, commit, metadata):
    await publish(10)
    await commit(0, 4, metadata)
    assert waiting(await admin.backlog("echo")) == {(Lane.DEFAULT, 0): (6, 6)}


async def test_behind_a_commit_beyond_the_end_all_waits(admin, publish, commit):
    await publish(2)
    await commit(0, 50)  # of a log that is no more: workers read all of this one
    assert waiting(await admin.backlog("echo")) == {(Lane.DEFAULT, 0): (2, 2)}


async def test_requests_of_an_open_transaction_are_not_there_yet(settings, broker, admin, publish):
    await publish(2)
    topic = settings.kafka.topics.requests("echo", Lane.DEFAULT)
    producer = AIOKafkaProducer(bootstrap_servers=broker, transactional_id=f"{topic}-test")
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"{}", partition=0)
            assert waiting(await admin.backlog("echo")) == {(Lane.DEFAULT, 0): (2, 2)}
    finally:
        await producer.stop()


async def test_models_are_kept_apart_and_a_missing_one_is_not_made(settings, admin, publish):
    await publish(3)
    await admin.ensure_topics(settings.kafka.topics.request_plans("org--secho", 1))
    totals = Counter()
    for row in (await admin.backlog()).rows:
        totals[row.model_slug] += row.requests
    assert totals == {"echo": 3, "org--secho": 0}
    assert (await admin.backlog("nobody")).rows == []
    assert not [name for name in await admin._raw.list_topics() if "nobody" in name]


async def test_few_requests_for_many_partitions(admin, publish, monkeypatch):
    await publish(1)
    await admin.backlog("echo")
    sent = Counter()
    send = admin._raw._send_request

    async def counted(request, node_id=None):
        sent[type(request).__name__] += 1
        return await send(request, node_id)

    monkeypatch.setattr(admin._raw, "_send_request", counted)
    await admin.backlog("echo")
    assert sent == {"MetadataRequest": 1, "OffsetFetchRequest": 1, "OffsetRequest": 2}


async def test_a_group_that_is_being_loaded_is_asked_again(admin, publish, commit, monkeypatch):
    """aiokafka's own call would say that there are no commits, and so that all is still to be done."""
    await publish(5)
    await commit(0, 5)
    send, errors = admin._raw._send_request, 0

    async def loading(request, node_id=None):
        nonlocal errors
        reply = await send(request, node_id)
        if type(request).__name__ == "OffsetFetchRequest" and errors < 2:
            errors += 1
            reply.topics, reply.error_code = [], CoordinatorLoadInProgressError.errno
        return reply

    monkeypatch.setattr(admin._raw, "_send_request", loading)
    assert waiting(await admin.backlog("echo")) == {}
    assert errors == 2


async def test_a_broker_that_never_tells_is_one_sentence(admin, publish, monkeypatch):
    async def never():
        raise NodeNotReadyError(1)

    monkeypatch.setattr(admin._raw, "_get_cluster_metadata", never)
    monkeypatch.setattr(backlog, "_PATIENCE_S", 0.3)
    with pytest.raises(Unavailable, match="did not tell the backlog"):
        await admin.backlog("echo")


async def test_a_group_that_cannot_be_read_is_one_models_fault(admin, settings, publish, monkeypatch):
    await publish(2)
    topics = settings.kafka.topics
    await admin.ensure_topics(topics.request_plans("other", 2))
    find = admin._raw.find_coordinator

    async def never(group):
        if group == topics.group("other"):
            raise CoordinatorLoadInProgressError(f"group {group}")
        return await find(group)

    monkeypatch.setattr(admin._raw, "find_coordinator", never)
    why = {"other": f"group {topics.group('other')}: GroupLoadInProgressError"}
    for found in (await admin.backlog(), await admin.follow_backlog(["echo", "other"], [])):
        assert (waiting(found), found.faults) == ({(Lane.DEFAULT, 0): (2, 2)}, why)
        assert {row.model_slug for row in found.rows} == {"echo"}
    monkeypatch.undo()
    for found in (await admin.backlog(), await admin.follow_backlog(["echo", "other"], [])):
        assert Counter(row.model_slug for row in found.rows) == {"echo": 12, "other": 6}
        assert found.faults == {}


class TestFollowing:
    """Again and again, at little cost."""

    async def test_tells_what_reading_tells(self, admin, publish, commit):
        await publish(5)
        await commit(0, 2)
        await publish(3, Lane.FLEX, 1)

        for _ in range(2):
            found = await admin.follow_backlog(["echo"], ["echo"])
            assert waiting(found) == waiting(await admin.backlog("echo"))
            assert sum(row.end for row in found.rows) == 8

    async def test_what_comes_is_seen_at_once_also_of_idle_models(self, admin, publish):
        assert waiting(await admin.follow_backlog(["echo"], [])) == {}
        await publish(2)
        assert waiting(await admin.follow_backlog(["echo"], [])) == {(Lane.DEFAULT, 0): (2, 2)}

    async def test_commits_are_read_of_those_that_live(self, admin, publish, commit, monkeypatch):
        await publish(4)
        await admin.follow_backlog(["echo"], [])
        await commit(0, 4)
        assert waiting(await admin.follow_backlog(["echo"], [])) == {(Lane.DEFAULT, 0): (4, 4)}
        assert waiting(await admin.follow_backlog(["echo"], ["echo"])) == {}
        await publish(1)
        await commit(0, 5)
        monkeypatch.setattr(backlog, "_IDLE_S", 0.0)
        assert waiting(await admin.follow_backlog(["echo"], [])) == {}, "and of others now and then"

    async def test_a_model_that_is_new_is_there_at_once(self, admin, settings, publish):
        await admin.follow_backlog(["echo"], [])
        topics = settings.kafka.topics
        await admin.ensure_topics(topics.request_plans("young", 2))
        found = await admin.follow_backlog(["echo", "young"], [])
        assert Counter(row.model_slug for row in found.rows) == {"echo": 12, "young": 6}
        found = await admin.follow_backlog(["young"], [])
        assert {row.model_slug for row in found.rows} >= {"young"}

    async def test_commits_that_kafka_has_forgotten_do_not_stand(self, admin, settings, publish, commit):
        """As those of topics that were deleted and made anew, which would never be seen to have work."""
        await publish(4)
        await commit(0, 4)
        assert waiting(await admin.follow_backlog(["echo"], ["echo"])) == {}
        group = settings.kafka.topics.group("echo")
        coordinator = await admin._raw.find_coordinator(group)
        reply = await admin._raw._send_request(DeleteGroupsRequest([group]), coordinator)
        assert [code for _, code in reply.results] == [0]
        assert waiting(await admin.follow_backlog(["echo"], ["echo"])) == {(Lane.DEFAULT, 0): (4, 4)}

    async def test_only_those_that_were_asked_for(self, admin, settings, model):
        await admin.ensure_topics(settings.kafka.topics.request_plans("other", 2))
        found = await admin.follow_backlog(["echo"], [])
        assert {row.model_slug for row in found.rows} == {"echo"}

    async def test_topics_that_go_are_one_models_fault(self, admin, settings, publish):
        await publish(2)
        plans = settings.kafka.topics.request_plans("other", 2)
        await admin.ensure_topics(plans)
        assert (await admin.follow_backlog(["echo", "other"], [])).faults == {}
        await admin.delete_topics([plan.name for plan in plans])
        seen = {"echo", "other"}
        while "other" in seen:
            found = await admin.follow_backlog(["echo", "other"], [])
            assert waiting(found) == {(Lane.DEFAULT, 0): (2, 2)}
            seen = {row.model_slug for row in found.rows}
            assert "echo" in seen
        assert not found.is_deaf
