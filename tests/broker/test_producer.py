"""Publishing to a real broker: acknowledged, refused, or told that nothing is there."""

import asyncio
from contextlib import suppress

import pytest

from headrace.contracts.errors import BodyTooLarge, NotPermitted, SetupError, Unavailable
from headrace.contracts.topics import TopicPlan
from headrace.core.ports import Outgoing
from headrace.kafka.admin import Admin
from headrace.kafka.connection import start_patiently
from headrace.kafka.producer import MAX_RECORD_BYTES, Producer
from headrace.kafka.reader import PartitionReader

pytestmark = pytest.mark.broker


@pytest.fixture
async def producer(settings):
    producer = Producer(settings.kafka, source="test")
    await producer.start()
    yield producer
    await producer.stop()


async def test_an_acknowledged_record_can_be_read_where_the_receipt_says(settings, model, producer):
    topic = settings.kafka.topics.results
    receipt = await producer.send(Outgoing(topic, b"value", b"key", [("name", b"text")], 3))
    place = await receipt
    assert (place.topic, place.partition) == (topic, 3)
    async with PartitionReader(settings.kafka, {topic: [3]}) as reader:
        (record,) = await reader.read_to_end()
    assert record.place == (topic, 3, place.offset)
    assert (record.key, record.value, record.headers) == (b"key", b"value", {"name": b"text"})


async def test_partitions_of_topics_that_are_there_and_that_are_not(settings, model, producer):
    assert await producer.partitions(settings.kafka.topics.results) == 8
    assert await producer.partitions(settings.kafka.topic_prefix + "nowhere") == 0


async def test_a_record_that_kafka_would_refuse(settings, model, producer):
    with pytest.raises(BodyTooLarge, match="over"):
        await producer.send(Outgoing(settings.kafka.topics.results, b"x" * (MAX_RECORD_BYTES + 1)))


@pytest.mark.parametrize(
    ("config", "refused", "why"),
    [
        ({"max.message.bytes": "2000"}, b"x" * 5000, BodyTooLarge),
        ({"cleanup.policy": "compact"}, b"no key", NotPermitted),
    ],
)
async def test_a_record_that_its_topic_never_takes_keeps_no_other_out(
    settings, producer, config, refused, why
):
    topic = settings.kafka.topic_prefix + "strict"
    async with Admin(settings.kafka) as admin:
        await admin.ensure_topics([TopicPlan(topic, 1, config)])
    assert (await (await producer.send(Outgoing(topic, b"first", b"key", partition=0)))).offset == 0
    with pytest.raises(why):
        await (await producer.send(Outgoing(topic, refused, partition=0)))
    for offset in (1, 2):
        receipt = await producer.send(Outgoing(topic, b"next", b"key", partition=0))
        assert (await receipt).offset == offset


async def test_a_partition_that_does_not_exist(settings, model, producer):
    with pytest.raises(Unavailable):
        await producer.send(Outgoing(settings.kafka.topics.results, b"x", partition=99))


async def test_who_was_refused_once_connects_later(settings, model, producer, monkeypatch):
    """As by a broker that starts, and does not know its users yet."""
    refusals = [SetupError("refused")]

    async def start(*args):
        if refusals:
            raise refusals.pop()
        return await start_patiently(*args)

    monkeypatch.setattr("headrace.kafka.producer.start_patiently", start)
    producer._raw._sender.sender_task.cancel()  # as after an error that aiokafka does not survive
    sent = Outgoing(settings.kafka.topics.results, b"x", b"key")
    async with asyncio.timeout(20):
        while refusals:
            await asyncio.sleep(0.05)
        while True:
            with suppress(Unavailable):
                await (await producer.send(sent))
                break
            await asyncio.sleep(0.05)


async def test_a_stopped_producer_says_so(settings, model):
    producer = Producer(settings.kafka, source="test")
    await producer.start()
    await producer.stop()
    with pytest.raises(Unavailable, match="nothing was written"):
        await producer.send(Outgoing(settings.kafka.topics.results, b"x"))


async def test_many_at_once_come_whole_and_in_order(settings, model, producer):
    topic = settings.kafka.topics.results
    sizes_bytes = [100, 60_000, 200_000, 0]
    records = [
        Outgoing(topic, b"%d " % n + b"x" * sizes_bytes[n % 4], b"key %d" % n, [("n", b"%d" % n)], n % 3)
        for n in range(60)
    ]
    receipts = await producer.send_all(records)
    assert {(await receipt).partition for receipt in receipts} == {0, 1, 2}
    assert producer.silent_s() == 0.0
    async with PartitionReader(settings.kafka, {topic: [0, 1, 2]}) as reader:
        found = await reader.read_to_end()
    assert sorted((r.key, r.value) for r in found) == sorted((r.key, r.value) for r in records)
    assert all(r.headers == {"n": r.key.removeprefix(b"key ")} for r in found)
    small = [int(r.headers["n"]) for r in found if r.place.partition == 1 and len(r.value) < 100_000]
    assert small == sorted(small)
    assert await producer.send_all([]) == []


async def test_many_of_which_one_cannot_be_written(settings, model, producer):
    topic = settings.kafka.topics.results
    with pytest.raises(BodyTooLarge, match="over"):
        await producer.send_all([Outgoing(topic, b"x" * (MAX_RECORD_BYTES + 1), partition=0)])
    with pytest.raises(Unavailable):
        await producer.send_all([Outgoing(topic, b"x", partition=99)])
    # Neither keeps the next from being written.
    (receipt,) = await producer.send_all([Outgoing(topic, b"x", partition=0)])
    assert (await receipt).partition == 0
