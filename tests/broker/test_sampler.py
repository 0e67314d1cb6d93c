"""A look at some of the records that wait, on a real broker."""

import asyncio
from collections import Counter

import pytest
from aiokafka import AIOKafkaProducer

from headrace.contracts.topics import Lane
from headrace.core.glimpse import Span
from headrace.kafka.sampler import MAX_RECORDS, Sampler, places

pytestmark = pytest.mark.broker


@pytest.fixture
async def sampler(settings, model):
    async with Sampler(settings.kafka) as sampler:
        yield sampler


@pytest.fixture
async def publish(settings, broker, model):
    topic = settings.kafka.topics.requests("echo", Lane.DEFAULT)
    producer = AIOKafkaProducer(bootstrap_servers=broker, linger_ms=20)
    await producer.start()

    async def send(count, partition=0, value=b"{}"):
        sent = [await producer.send(topic, value, partition=partition) for _ in range(count)]
        await asyncio.gather(*sent)
        return Span(topic, partition, 0, count, count)

    yield send
    await producer.stop()


async def test_few_are_all_seen(sampler, publish):
    spans = [await publish(3, 0), await publish(1, 1), Span("headrace.nothing", 0, 5, 5, 0)]
    found = await sampler.look(spans)
    assert [(before, record.place.partition) for before, record in found] == [
        (0.0, 0), (pytest.approx(1 / 3), 0), (pytest.approx(2 / 3), 0), (0.0, 1)
    ]  # fmt: skip
    assert await sampler.look(spans) == found, "and again"
    assert await sampler.look([]) == []


async def test_of_many_some_are_seen_from_all_parts(sampler, publish):
    span = await publish(5000)
    found = await sampler.look([span._replace(begin=1000, requests=4000)])
    assert len(found) <= MAX_RECORDS
    offsets = [record.place.offset for _, record in found]
    assert (min(offsets), max(offsets)) == (1000, 4999)
    assert len(set(offsets)) == len(offsets) > 100
    quarters = Counter(int(before * 4) for before, _ in found)
    assert set(quarters) == {0, 1, 2, 3}


async def test_large_ones_are_few(sampler, publish):
    spans = [await publish(30, number, b"x" * 100_000) for number in range(4)]
    found = await sampler.look(spans)
    assert {record.place.partition for _, record in found} == {0, 1, 2, 3}
    assert sum(len(record.value) for _, record in found) < 12_000_000


def test_places_are_spread_over_partitions_and_over_what_waits():
    spans = [Span("t", number, 0, 10_000, 10_000) for number in range(12)]
    (one,) = places(spans)
    assert len(one) == 8
    assert (one[0][1], one[-1][1]) == (0, 9_975)
    alone = places([Span("t", 0, 100, 10_100, 10_000)])
    assert [[start for _, start in each] for each in alone] == [[100], [3416], [6733], [10_050]]
    assert places([Span("t", 0, 7, 9, 2), Span("t", 1, 3, 3, 0)]) == [[(Span("t", 0, 7, 9, 2), 7)]]


def test_a_lane_with_few_is_looked_at_beside_one_with_many():
    many = [Span("flex", number, 0, 10_000, 10_000) for number in range(12)]
    (one,) = places([*many, Span("priority", 3, 5, 6, 1), Span("priority", 4, 5, 7, 2)])
    assert len(one) == 8
    assert [(span.partition, start) for span, start in one if span.topic == "priority"] == [(4, 5)]
