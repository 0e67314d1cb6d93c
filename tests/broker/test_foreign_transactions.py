"""Requests that others publish in transactions: served when committed, never when aborted."""

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaProducer

from headrace.contracts.topics import Lane
from headrace.kafka.admin import Admin
from headrace.kafka.work import WorkConsumer, WorkTopics

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]


@pytest.fixture
def topic(settings, model):
    return settings.kafka.topics.requests("echo", Lane.DEFAULT)


@pytest.fixture
async def foreigner(broker):
    """A publisher with transactions, as anybody's could be."""
    producer = AIOKafkaProducer(bootstrap_servers=broker, transactional_id=f"foreign-{uuid.uuid4()}")
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
async def publish(foreigner, topic):
    async def publish(*values):
        for value in values:
            await foreigner.send_and_wait(topic, value, partition=0)

    return publish


@pytest.fixture
async def worker(settings, model):
    consumer = WorkConsumer(settings, WorkTopics(settings.kafka.topics, "echo"), "one")
    await consumer.start()
    yield consumer
    await consumer.stop()


@pytest.fixture
async def backlog(settings):
    """What waits, and the lag, of the partition in use."""
    async with Admin(settings.kafka) as admin:

        async def look():
            rows = (await admin.backlog("echo")).rows
            (row,) = [row for row in rows if row.lane is Lane.DEFAULT and row.partition == 0]
            return row.requests, row.lag

        yield look


async def take(worker, count, timeout_s=15.0):
    found = []
    async with asyncio.timeout(timeout_s):
        while len(found) < count:
            found += await worker.take(count - len(found), 0.1)
    return found


async def nothing_more(worker):
    for _ in range(10):
        assert not await worker.take(10, 0.1)


async def becomes(backlog, expected):
    async with asyncio.timeout(10):
        while await backlog() != expected:
            await asyncio.sleep(0.1)


async def test_committed_are_served_and_aborted_never(foreigner, publish, worker, backlog):
    async with foreigner.transaction():
        await publish(b"1", b"2")
    await foreigner.begin_transaction()
    await publish(b"never", b"never")
    await foreigner.abort_transaction()
    async with foreigner.transaction():
        await publish(b"3")

    taken = await take(worker, 3)
    assert [record.value for record in taken] == [b"1", b"2", b"3"]
    # Two markers and what was aborted lie between them.
    assert [record.place.offset for record in taken] == [0, 1, 6]
    for record in taken:
        worker.complete(record.place)
    await nothing_more(worker)
    await becomes(backlog, (0, 0))


async def test_what_was_aborted_last_is_no_backlog(foreigner, publish, worker, backlog):
    await foreigner.begin_transaction()
    await publish(*[b"never"] * 20)
    await foreigner.abort_transaction()
    await nothing_more(worker)
    # Otherwise a scaler would keep workers for requests that nobody can ever serve.
    await becomes(backlog, (0, 0))


async def test_an_open_transaction_is_waited_for(foreigner, publish, worker, backlog):
    await foreigner.begin_transaction()
    await publish(b"late")
    other = AIOKafkaProducer(bootstrap_servers=foreigner.client._bootstrap_servers)
    await other.start()
    try:
        await other.send_and_wait(worker_topic(worker), b"behind it", partition=0)
        await other.send_and_wait(worker_topic(worker), b"elsewhere", partition=1)
    finally:
        await other.stop()
    (elsewhere,) = await take(worker, 1)
    assert elsewhere.value == b"elsewhere"
    worker.complete(elsewhere.place)
    await nothing_more(worker)
    assert await backlog() == (0, 0)  # nothing that a worker could begin
    await foreigner.commit_transaction()
    taken = await take(worker, 2)
    assert [record.value for record in taken] == [b"late", b"behind it"]
    for record in taken:
        worker.complete(record.place)
    await becomes(backlog, (0, 0))


def worker_topic(worker):
    return next(topic for topic, lane in worker.lanes.items() if lane is Lane.DEFAULT)


async def test_a_restart_between_markers_redoes_nothing(settings, foreigner, publish, worker, backlog):
    for values in ([b"1", b"2"], [b"3"]):
        async with foreigner.transaction():
            await publish(*values)
    taken = await take(worker, 3)
    worker.complete(taken[0].place)
    worker.complete(taken[2].place)
    await worker.stop()

    second = WorkConsumer(settings, WorkTopics(settings.kafka.topics, "echo"), "two")
    await second.start()
    try:
        (again,) = await take(second, 1)
        assert again.value == b"2"
        await nothing_more(second)
        second.complete(again.place)
        await becomes(backlog, (0, 0))
    finally:
        await second.stop()
