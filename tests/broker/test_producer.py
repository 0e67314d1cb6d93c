"""Publishing to a real broker: acknowledged, refused, or told that nothing is there."""

import pytest

from headrace.contracts.errors import BodyTooLarge, Unavailable
from headrace.core.ports import Outgoing
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


async def test_a_partition_that_does_not_exist(settings, model, producer):
    with pytest.raises(Unavailable):
        await producer.send(Outgoing(settings.kafka.topics.results, b"x", partition=99))


async def test_a_stopped_producer_says_so(settings, model):
    producer = Producer(settings.kafka, source="test")
    await producer.start()
    await producer.stop()
    with pytest.raises(Unavailable, match="nothing was written"):
        await producer.send(Outgoing(settings.kafka.topics.results, b"x"))
