"""Reading without a group: from the beginning, from the end, to the end."""

import pytest

from headrace.core.ports import Outgoing
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader

pytestmark = pytest.mark.broker


@pytest.fixture
async def publish(settings, model):
    producer = Producer(settings.kafka, source="test")
    await producer.start()

    async def send(value, partition=0):
        receipt = await producer.send(Outgoing(settings.kafka.topics.replies, value, partition=partition))
        await receipt

    yield send
    await producer.stop()


async def test_read_to_end_gives_everything_there_is(settings, publish):
    for number in range(5):
        await publish(b"%d" % number, partition=number)
    async with PartitionReader(settings.kafka, {settings.kafka.topics.replies: None}) as reader:
        assert sorted(record.value for record in await reader.read_to_end()) == [b"0", b"1", b"2", b"3", b"4"]
        assert await reader.read_to_end() == []


async def test_a_reader_at_the_end_misses_nothing_that_comes_after_its_start(settings, publish):
    await publish(b"old")
    async with PartitionReader(settings.kafka, {settings.kafka.topics.replies: [0]}, at="end") as reader:
        await publish(b"new")
        assert [record.value for record in await reader.poll(5)] == [b"new"]


async def test_a_partition_that_is_not_read_is_not_delivered(settings, publish):
    async with PartitionReader(settings.kafka, {settings.kafka.topics.replies: [1]}, at="end") as reader:
        await publish(b"elsewhere", partition=0)
        assert await reader.poll(0.5) == []


async def test_the_latest_records_of_each_partition(settings, publish):
    for number in range(5):
        await publish(b"%d" % number, partition=0)
    await publish(b"only", partition=1)
    topic = settings.kafka.topics.replies
    async with PartitionReader(settings.kafka, {topic: [0, 1, 2]}, at=2) as reader:
        assert sorted(record.value for record in await reader.read_to_end()) == [b"3", b"4", b"only"]
        await publish(b"new", partition=2)
        assert [record.value for record in await reader.poll(5)] == [b"new"]
