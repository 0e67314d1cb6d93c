"""Retry topics, read beside the dispatcher's group on a real broker."""

import asyncio

import pytest
from tests.unit.core.test_returns import waiting

from headrace.contracts.topics import RETRY_DELAYS_S
from headrace.core.ports import Outgoing
from headrace.core.returns import Returns
from headrace.kafka.admin import Admin
from headrace.kafka.group import GroupReader
from headrace.kafka.producer import Producer
from headrace.kafka.returning import RETRIES, ReturningReader

pytestmark = pytest.mark.broker


@pytest.fixture
async def publish(settings):
    topics = settings.kafka.topics
    async with Admin(settings.kafka) as admin:
        await admin.ensure_topics(topics.shared_plans())
    producer = Producer(settings.kafka, source="test")
    await producer.start()

    async def send(delay, due_s):
        made = waiting(0, due_s)
        headers = [
            (name, value.replace(b"headrace.", topics.prefix.encode()))
            for name, value in made.headers.items()
        ]
        await (await producer.send(Outgoing(topics.retries(delay), b"{}", None, headers, partition=1)))

    yield send
    await producer.stop()


async def counted(reader, returns, number):
    """When so many come back, in the end."""
    async with asyncio.timeout(30):
        while True:
            for record in await reader.poll(0.1):
                returns.take(record)
            returns.committed(await reader.commits())
            found = returns.due().get("chat", [])
            if len(found) == number:
                return found


async def test_what_the_dispatcher_has_not_put_back_waits(settings, publish):
    kafka = settings.kafka
    topics = [kafka.topics.retries(delay) for delay in RETRY_DELAYS_S]
    for due_s in (10.0, 11.0):
        await publish("5s", due_s)
    dispatcher = GroupReader(kafka, f"{kafka.topic_prefix}{RETRIES}", topics)
    async with ReturningReader(kafka) as reader:
        returns = Returns(kafka.topics)
        assert await counted(reader, returns, 2) == [10.0, 11.0]
        await dispatcher.start()
        try:
            polled = []
            async with asyncio.timeout(30):
                while len(polled) < 2:
                    polled += await dispatcher.poll(0.5, 10)
            assert await dispatcher.commit(), "nobody else is in its group"
            assert await counted(reader, returns, 0) == []
            await publish("30s", 40.0)
            assert await counted(reader, returns, 1) == [40.0]
        finally:
            await dispatcher.stop()
    async with ReturningReader(kafka) as again:
        assert await counted(again, Returns(kafka.topics), 1) == [40.0], "what was put back is not read again"
