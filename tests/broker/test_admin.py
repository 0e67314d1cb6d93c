"""The control plane's verbs on a real broker."""

import asyncio
import os
import sys
import time

import pytest

from headrace.contracts.errors import SetupError
from headrace.contracts.topics import TopicPlan
from headrace.core.ports import Outgoing
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.work import WorkConsumer, WorkTopics

pytestmark = pytest.mark.broker


async def test_topics_are_created_once_with_their_settings(settings):
    plan = TopicPlan(f"{settings.kafka.topic_prefix}one", 3, {"retention.ms": "12345"})
    async with Admin(settings.kafka) as admin:
        await asyncio.gather(admin.ensure_topics([plan]), admin.ensure_topics([plan]))
        await admin.ensure_topics([TopicPlan(plan.name, 7)])
        producer = Producer(settings.kafka, source="test")
        await producer.start()
        assert await producer.partitions(plan.name) == 3
        await producer.stop()


async def test_too_few_brokers_is_a_sentence(settings):
    greedy = settings.kafka.model_copy(update={"replication_factor": 3})
    async with Admin(greedy) as admin:
        with pytest.raises(SetupError, match="too few brokers for replication factor 3"):
            await admin.ensure_topics([TopicPlan(f"{greedy.topic_prefix}three", 1)])


async def test_the_first_request_to_a_new_model_is_not_missed(settings, model):
    """Published before any worker exists; a reset to `latest` would lose it."""
    topics = settings.kafka.topics
    producer = Producer(settings.kafka, source="test")
    await producer.start()
    receipt = await producer.send(Outgoing(topics.requests("echo", "default"), b"first"))
    await receipt
    consumer = WorkConsumer(settings, WorkTopics(topics, "echo"), "w1")
    await consumer.start()
    assert [record.value for record in await take(consumer, 1)] == [b"first"]
    await consumer.stop()
    await producer.stop()


MEMBER = """
import asyncio
from headrace.kafka.work import WorkConsumer, WorkTopics
from headrace.settings import load

async def main():
    settings = load()
    consumer = WorkConsumer(settings, WorkTopics(settings.kafka.topics, "echo"), "dead")
    await consumer.start()
    while len(consumer.partitions) < 12:
        await asyncio.sleep(0.1)
    print(consumer.member_id, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_an_obituary_moves_partitions_before_the_session_timeout(settings, model):
    topics = settings.kafka.topics
    work = WorkTopics(topics, "echo")
    member = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        MEMBER,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
            "HEADRACE_KAFKA_TOPIC_PREFIX": settings.kafka.topic_prefix,
        },
    )
    member_id = (await member.stdout.readline()).decode().strip()
    member.kill()
    await member.wait()
    producer = Producer(settings.kafka, source="test")
    await producer.start()
    await (await producer.send(Outgoing(topics.requests("echo", "default"), b"waiting")))
    heir = WorkConsumer(settings, work, "heir")
    await heir.start()
    started_s = time.monotonic()
    async with Admin(settings.kafka) as admin:
        assert await admin.leave_group(work.group, member_id)
        assert not await admin.leave_group(work.group, member_id), "it is gone"
    assert [record.value for record in await take(heir, 1)] == [b"waiting"]
    assert time.monotonic() - started_s < 15.0 / 2, "the session timeout is 15 s"
    await heir.stop()
    await producer.stop()


async def take(consumer, count, timeout_s=10.0):
    found = []
    until_s = time.monotonic() + timeout_s
    while len(found) < count or count == 0:
        found += await consumer.take(max(1, count), 0.1)
        if time.monotonic() > until_s:
            break
    return found
