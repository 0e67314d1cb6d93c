"""Requests from publishers that compress, as Kafka's own clients can."""

import asyncio
import dataclasses

import pytest

from headrace.core.ports import Outgoing
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.work import WorkConsumer, WorkTopics

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_is_compressed_is_read(settings, codec):
    topics = settings.kafka.topics
    # The broker compresses, so that it makes no difference what our own producer can.
    plans = [
        dataclasses.replace(plan, config={**plan.config, "compression.type": codec})
        for plan in topics.request_plans("packed", 1)
    ]
    async with Admin(settings.kafka) as admin:
        await admin.ensure_topics(plans)
        await admin.commit_initial_offsets(topics.group("packed"), plans)
    producer = Producer(settings.kafka, source="test")
    await producer.start()
    await (await producer.send(Outgoing(plans[0].name, b"x" * 1000)))
    await producer.stop()
    consumer = WorkConsumer(settings, WorkTopics(topics, "packed"), "one")
    await consumer.start()
    try:
        taken = []
        async with asyncio.timeout(30):
            while not taken:
                taken = await consumer.take(1, 10.0)
        assert [record.value for record in taken] == [b"x" * 1000]
    finally:
        await consumer.stop()
