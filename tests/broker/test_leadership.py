"""Who acts, on a real broker."""

import asyncio

import pytest

from headrace.contracts.errors import Unavailable
from headrace.contracts.topics import TopicPlan
from headrace.core.ports import Outgoing
from headrace.kafka.admin import Admin
from headrace.kafka.leadership import Leadership
from headrace.kafka.producer import Producer

pytestmark = pytest.mark.broker


async def until(is_so, timeout_s=20.0):
    async with asyncio.timeout(timeout_s):
        while not is_so():
            await asyncio.sleep(0.02)


@pytest.fixture
async def candidate(settings):
    """Makes candidates of one election."""
    kafka = settings.kafka
    topic = kafka.topics.scaler
    async with Admin(kafka) as admin:
        await admin.ensure_topics([TopicPlan(topic, 1)])
    producer = Producer(kafka, source="test")
    await producer.start()
    made = []

    async def make(publisher=lambda producer: producer):
        leadership = Leadership(kafka, topic, publisher(producer), lambda: Outgoing(topic, b"{}", b"leader"))
        await leadership.start()
        made.append(leadership)
        return leadership

    yield make
    for each in made:
        await each.stop()
    await producer.stop()


async def test_one_leads_and_another_follows_it_with_a_higher_epoch(candidate):
    first = await candidate()
    await until(lambda: first.epoch is not None)
    assert await first.confirm()

    second = await candidate()
    await until(lambda: not second.may_lead and first.epoch is not None)
    assert second.epoch is None
    assert not await second.confirm()
    assert await first.confirm(), "who leads goes on leading when another comes"
    before = first.epoch

    await first.stop()
    await until(lambda: second.epoch is not None)
    assert second.epoch > before
    assert await second.confirm()


async def test_one_whose_partition_went_to_another_cannot_confirm(candidate):
    first = await candidate()
    await until(lambda: first.epoch is not None)
    # It stops speaking to the broker, as a process that was stopped does, and does not know it.
    first._raw._coordinator._heartbeat_task.cancel()
    second = await candidate()
    await until(lambda: second.epoch is not None)
    assert not await first.confirm()
    assert await second.confirm()


class Stubborn:
    """A producer that fails the first times."""

    def __init__(self, producer, times):
        self._producer = producer
        self._times = times

    async def send(self, record):
        if self._times:
            self._times -= 1
            raise Unavailable("not now")
        return await self._producer.send(record)


async def test_it_leads_when_kafka_takes_its_word_at_last(candidate):
    ours = await candidate(lambda producer: Stubborn(producer, 2))
    async with asyncio.timeout(20):
        while ours.epoch is None:
            # As whoever waits for it does: no change may be lost by that.
            ours.changed.clear()
            await asyncio.sleep(0.01)
    assert await ours.confirm()
