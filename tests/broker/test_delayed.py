"""Waiting in Kafka: what is due comes, what is not due waits and is not committed, one partition by one."""

import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.core.ports import Outgoing
from headrace.kafka.delayed import DelayedReader
from headrace.kafka.producer import Producer

pytestmark = pytest.mark.broker


@pytest.fixture
async def topic(settings):
    name = f"{settings.kafka.topic_prefix}waiting"
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 2, 1)])
    await admin.close()
    return name


@pytest.fixture
async def publish(settings, topic):
    producer = Producer(settings.kafka, source="test")
    await producer.start()

    async def publish(partition, *due_s):
        for each in due_s:
            await (await producer.send(Outgoing(topic, b"%r" % each, partition=partition)))

    yield publish
    await producer.stop()


@pytest.fixture
async def readers(settings, topic):
    started = []

    async def start():
        reader = DelayedReader(
            settings.kafka, f"{topic}.group", [topic], lambda record: float(record.value or b"")
        )
        await reader.start()
        started.append(reader)
        return reader

    yield start
    for reader in started:
        await reader.stop()


async def collect(reader, count, timeout_s=15.0):
    """Records with the time at which each came."""
    found, until_s = [], time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < until_s:
        found += [(record, time.time()) for record in await reader.poll(0.5, 100)]
    return found


async def test_each_comes_when_it_is_due_and_no_partition_waits_for_another(readers, publish):
    soon = time.time() + 3
    await publish(0, 1.0, soon, 2.0)
    await publish(1, 3.0, 4.0)
    reader = await readers()
    first = await collect(reader, 3)
    assert sorted(float(record.value) for record, _ in first) == [1.0, 3.0, 4.0]
    rest = await collect(reader, 2)
    assert [float(record.value) for record, _ in rest] == [soon, 2.0], "in order"
    assert all(came_s >= soon for _, came_s in rest)


async def test_what_waits_is_not_committed(readers, publish):
    late = time.time() + 4
    await publish(0, 1.0, late)
    reader = await readers()
    assert len(await collect(reader, 1)) == 1
    assert await reader.poll(0.5, 100) == []
    assert await reader.commit()
    await reader.stop()
    again = await readers()
    assert [float(record.value) for record, _ in await collect(again, 1)] == [late]


async def test_a_rebalance_forgets_no_waiting_record(readers, publish):
    late = time.time() + 8
    await publish(0, late)
    await publish(1, late)
    first = await readers()
    assert await first.poll(1.0, 100) == []
    second = await readers()
    found = []
    while len(found) < 2 and time.time() < late + 15:
        for reader in (first, second):
            found += [(record, time.time()) for record in await reader.poll(0.3, 100)]
    assert sorted(record.place.partition for record, _ in found) == [0, 1]
    assert all(came_s >= late for _, came_s in found)
