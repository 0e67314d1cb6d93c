"""A worker's share of its group, on a real broker: lanes, tracking, commits, rebalances."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import InconsistentGroupProtocolError

from headrace.contracts.errors import SetupError
from headrace.contracts.events import Obituary
from headrace.contracts.topics import Lane
from headrace.core.offsets import Commit
from headrace.core.ports import Outgoing
from headrace.kafka import work as work_module
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.vacant import VacantGroup
from headrace.kafka.work import WorkConsumer, WorkRules, WorkTopics

pytestmark = pytest.mark.broker


@pytest.fixture
def work(settings, model):
    return WorkTopics(settings.kafka.topics, "echo")


@pytest.fixture
async def publish(settings, model):
    producer = Producer(settings.kafka, source="test")
    await producer.start()

    async def send(*values, lane=Lane.DEFAULT, partition=None):
        topic = settings.kafka.topics.requests("echo", lane)
        receipts = [await producer.send(Outgoing(topic, value, partition=partition)) for value in values]
        await asyncio.gather(*receipts)

    yield send
    await producer.stop()


@pytest.fixture
async def consumers(settings, work):
    """Makes consumers, and stops those that the test has not stopped."""
    made = []

    async def make(name):
        consumer = WorkConsumer(settings, work, name)
        await consumer.start()
        made.append(consumer)
        return consumer

    yield make
    for consumer in made:
        await consumer.stop()


async def collect(consumer, count, timeout_s=15.0):
    found = []
    until_s = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < until_s:
        found += await consumer.take(count - len(found), 0.1)
    return found


async def take_for_ever(consumer):
    async with asyncio.timeout(20):
        while True:
            await consumer.take(1, 0.2)


def values(records):
    return sorted(record.value for record in records)


async def test_what_is_completed_out_of_order_is_not_redone(consumers, publish):
    await publish(*(b"%d" % n for n in range(10)), partition=1)
    first = await consumers("first")
    records = await collect(first, 10)
    for record in records:
        if record.value not in (b"2", b"7"):
            first.complete(record.place)
    await first.stop()
    second = await consumers("second")
    assert values(await collect(second, 2)) == [b"2", b"7"]
    assert await second.take(10, 0.5) == []


async def test_what_is_being_committed_at_the_end_is_not_redone(consumers, publish, monkeypatch):
    await publish(*(b"%d" % n for n in range(4)), partition=1)
    first = await consumers("first")
    records = await collect(first, 4)
    commit, begun = first._raw.commit, asyncio.Event()

    async def slow(offsets):
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(first._raw, "commit", slow)
    for record in records:
        first.complete(record.place)
    async with asyncio.timeout(10):
        await begun.wait()
    monkeypatch.setattr(first._raw, "commit", commit)
    await first.stop()
    second = await consumers("second")
    await second.joined.wait()
    assert await second.take(10, 1.0) == []


async def test_what_is_done_after_a_pause_is_committed_at_once(settings, work, publish):
    await publish(*(b"%d" % n for n in range(4)), partition=1)
    slow = settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"commit_interval_s": 60.0})}
    )
    consumer = WorkConsumer(slow, work, "one")
    await consumer.start()
    try:
        for record in await collect(consumer, 4):
            consumer.complete(record.place)
        part = TopicPartition(settings.kafka.topics.requests("echo", Lane.DEFAULT), 1)
        async with asyncio.timeout(20):
            while await consumer._raw.committed(part) != 4:
                await asyncio.sleep(0.05)
    finally:
        await consumer.stop()


async def test_requests_below_a_commit_of_a_log_that_is_no_more_are_run(settings, work, consumers, publish):
    """As when Kafka has lost the end of a partition, or its topic was made anew."""
    part = TopicPartition(settings.kafka.topics.requests("echo", Lane.DEFAULT), 1)
    async with VacantGroup(settings.kafka, work.group, {part.topic: 4}) as group:
        assert await group.commit({tuple(part): Commit(1000, "")})
    await publish(*(b"%d" % n for n in range(5)), partition=1)
    async with Admin(settings.kafka) as admin:
        assert sum(each.requests for each in (await admin.backlog("echo")).rows) == 5
    first = await consumers("first")
    for record in await collect(first, 5):
        first.complete(record.place)
    await first.stop()
    second = await consumers("second")
    assert await second.take(10, 1.0) == []
    await publish(b"next", partition=1)
    assert values(await collect(second, 1)) == [b"next"]


class OtherGroup(WorkTopics):
    """Reads what `echo` reads, for a group that has committed nothing."""

    @property
    def group(self):
        return f"{self.topics.prefix}others"


async def test_a_partition_without_a_commit_is_read_from_its_beginning(settings, publish):
    await publish(b"0", b"1", partition=1)
    other = WorkConsumer(settings, OtherGroup(settings.kafka.topics, "echo"), "one")
    await other.start()
    try:
        assert values(await collect(other, 2)) == [b"0", b"1"]
        await publish(b"2", partition=2)
        assert values(await collect(other, 1)) == [b"2"]
    finally:
        await other.stop()


async def test_a_partition_whose_unread_requests_retention_took_is_read_on(
    settings, work, consumers, publish
):
    part = TopicPartition(settings.kafka.topics.requests("echo", Lane.DEFAULT), 1)
    await publish(*(b"%d" % n for n in range(5)), partition=1)
    async with Admin(settings.kafka) as admin:
        await admin._raw.delete_records({part: RecordsToDelete(3)})
    consumer = await consumers("one")
    found = await collect(consumer, 2)
    assert values(found) == [b"3", b"4"]
    for record in found:
        consumer.complete(record.place)
    async with asyncio.timeout(20):
        while await consumer._raw.committed(part) != 5:
            await asyncio.sleep(0.05)


async def test_why_there_are_no_partitions_is_told(settings, work, consumers):
    """A stranger is in the group, who shares partitions out by another rule."""
    stranger = AIOKafkaConsumer(
        next(iter(work.lanes)),
        bootstrap_servers=settings.kafka.bootstrap_servers,
        group_id=work.group,
        enable_auto_commit=False,
    )
    await stranger.start()
    try:
        consumer = await consumers("one")
        with pytest.raises(InconsistentGroupProtocolError):
            await take_for_ever(consumer)
    finally:
        await stranger.stop()


async def test_who_cannot_take_over_its_partitions_says_so(settings, work):
    async def broken():
        raise SetupError("nothing is known")

    consumer = WorkConsumer(settings, work, "one", WorkRules(before_new=broken))
    await consumer.start()
    try:
        with pytest.raises(SetupError):
            await take_for_ever(consumer)
    finally:
        await consumer.stop()


async def test_higher_lanes_come_first(consumers, publish):
    await publish(b"flex", lane=Lane.FLEX)
    await publish(b"default", lane=Lane.DEFAULT)
    await publish(b"priority", lane=Lane.PRIORITY)
    consumer = await consumers("one")
    await asyncio.sleep(1.0)  # all three are fetched by now; the order is the consumer's own
    taken = [record.value for _ in range(3) for record in await collect(consumer, 1)]
    assert taken == [b"priority", b"default", b"flex"]


async def test_never_more_than_asked_for(consumers, publish):
    await publish(*(b"%d" % n for n in range(20)))
    consumer = await consumers("one")
    assert len(await collect(consumer, 3)) == 3
    assert len(await collect(consumer, 5)) == 5


async def test_a_rebalance_redoes_nothing_that_runs_where_it_stays(consumers, publish):
    await publish(*(b"%d" % n for n in range(40)))
    first = await consumers("first")
    running = await collect(first, 40)
    assert len(running) == 40
    second = await consumers("second")
    until_s = time.monotonic() + 10
    again_first, again_second = [], []
    while time.monotonic() < until_s and len(first.partitions) == 12:
        again_first += await first.take(50, 0.1)
        again_second += await second.take(50, 0.1)
    assert len(first.partitions) == 6
    again_first += await first.take(50, 1.0)
    assert again_first == []
    # Both keep the lanes of a partition together.
    for consumer in (first, second):
        by_topic = {}
        for topic, partition in consumer.partitions:
            by_topic.setdefault(topic, set()).add(partition)
        assert len(by_topic) == 3
        assert len(set(map(frozenset, by_topic.values()))) == 1


async def test_who_has_no_partition_for_long_gets_those_of_others_when_they_go(consumers, monkeypatch):
    monkeypatch.setattr(work_module, "_MAX_POLL_INTERVAL_MS", 2000)
    monkeypatch.setattr(work_module, "_HOLD_PAUSE_S", 0.5)
    busy = [await consumers(f"busy-{n}") for n in range(4)]
    for each in busy:
        await each.joined.wait()
    spare = await consumers("spare")
    await spare.joined.wait()
    assert not spare.partitions
    await asyncio.sleep(4.0)  # longer than a member may go without polling
    for each in busy:
        await each.stop()
    async with asyncio.timeout(20):
        while len(spare.partitions) < 12:
            await asyncio.sleep(0.05)


async def test_what_runs_where_it_was_lost_is_left_to_its_holder(settings, work, publish):
    """Handed over without redoing anything; what the holder gives up is run anew by the new owner."""
    both = []

    async def report(event):
        for consumer in both:
            consumer.told(event)

    rules = WorkRules(report=report)
    first, second = (WorkConsumer(settings, work, name, rules) for name in ("first", "second"))
    both += [first, second]
    await first.start()
    await publish(*(b"%d" % n for n in range(40)))
    running = await collect(first, 40)
    await second.start()
    await settle(first, second)
    moved = [
        record for record in running if (record.place.topic, record.place.partition) in second.partitions
    ]
    assert 0 < len(moved) < 40
    assert await second.take(50, 1.0) == [], "held by the first"
    for record in running:
        if record is moved[0]:
            first.abort(record.place)
        else:
            first.complete(record.place)
    assert values(await collect(second, 1)) == [moved[0].value]
    second.complete(moved[0].place)
    await asyncio.sleep(0.5)
    await first.stop()
    await second.stop()
    third = WorkConsumer(settings, work, "third")
    await third.start()
    assert await third.take(50, 2.0) == [], "all is done and committed"
    await third.stop()


async def test_an_obituary_frees_what_the_dead_held(settings, work, consumers, publish):
    first, second = await consumers("first"), await consumers("second")
    await settle(first, second)
    await publish(*(b"%d" % n for n in range(20)))
    running = await collect(first, 20, timeout_s=2.0)
    await collect(second, 20, timeout_s=1.0)
    third = await consumers("third")
    async with asyncio.timeout(20):
        while not third.partitions:
            await asyncio.sleep(0.05)
    moved = {r.value for r in running if (r.place.topic, r.place.partition) in third.partitions}
    assert await third.take(50, 1.0) == []
    for dead in ("first", "second"):
        third.buried(Obituary(worker=dead, group=work.group, sent_at_s=time.time()))
    freed = {record.value for record in await collect(third, 20, timeout_s=3.0)}
    assert moved <= freed


async def settle(*consumers):
    """Wait until all have a share."""
    async with asyncio.timeout(20):
        while min(len(consumer.partitions) for consumer in consumers) < 12 // len(consumers):
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)


async def test_completed_work_of_a_kept_partition_is_committed_after_the_rebalance(consumers, publish):
    await publish(*(b"%d" % n for n in range(8)))
    first = await consumers("first")
    running = await collect(first, 8)
    second = await consumers("second")
    for record in running:
        first.complete(record.place)
    await collect(second, 1, timeout_s=2.0)
    await first.stop()
    await second.stop()
    third = await consumers("third")
    redone = await third.take(50, 1.0)
    moved = {record.place.partition for record in redone}
    assert moved <= {partition for _, partition in second.partitions}, (
        "only what was handed over may be redone"
    )


async def test_a_worker_that_is_full_for_long_stays_a_member(settings, work, consumers, publish, monkeypatch):
    monkeypatch.setattr("headrace.kafka.work._HOLD_PAUSE_S", 0.2)
    consumer = WorkConsumer(settings, work, "full", WorkRules(window=1))
    await consumer.start()
    await publish(b"1", b"2", lane=Lane.PRIORITY)
    await publish(b"1", b"2")
    await publish(b"1", b"2", lane=Lane.FLEX)
    async with asyncio.timeout(10):
        while not consumer._paused:
            await asyncio.sleep(0.1)
    assert len(consumer._window) == 3
    assert len(await collect(consumer, 6)) == 6
    assert not consumer._paused
    await consumer.stop()


async def test_commit_metadata_survives_many_unfinished_requests(consumers, publish):
    """Every second of 3,000 is done: the bitmap must fit into what the broker takes."""
    await publish(*(b"%d" % n for n in range(3000)), partition=0)
    first = await consumers("first")
    records = await collect(first, 3000)
    for record in records[1::2]:
        first.complete(record.place)
    await first.stop()
    second = await consumers("second")
    assert len(await collect(second, 1500)) == 1500
    assert await second.take(10, 0.5) == []
