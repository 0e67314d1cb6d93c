"""A gateway's heartbeat: the reply partition it holds, and whether Kafka takes what it sends."""

import asyncio

from tests.unit.gateway.parts import Kept

from headrace.contracts.errors import Unavailable
from headrace.contracts.events import GatewayHeartbeat
from headrace.gateway import heartbeat
from headrace.gateway.heartbeat import Heartbeat


async def test_it_beats_until_cancelled_and_says_when_it_ends(monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.001)
    kafka = Kept()
    beat = Heartbeat(kafka, "workers", "g-1", 17)
    task = asyncio.create_task(beat.regularly())
    while len(kafka.sent) < 3:
        await asyncio.sleep(0.001)
    task.cancel()
    event = GatewayHeartbeat.decode(kafka.sent[0].value)
    assert (event.id, event.reply_partition, kafka.sent[0].key) == ("g-1", 17, b"g-1")
    await beat.end()
    assert (kafka.sent[-1].key, kafka.sent[-1].value) == (b"g-1", None)


async def test_it_is_fresh_while_kafka_confirms(monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.001)
    monkeypatch.setattr(heartbeat, "FRESH_S", 0.05)
    kafka = Kept()
    kafka.refusal = Unavailable("away")
    beat = Heartbeat(kafka, "workers", "g-1", 17)
    assert beat.is_fresh()
    task = asyncio.create_task(beat.regularly())
    while beat.is_fresh():
        await asyncio.sleep(0.001)
    kafka.refusal = None
    while not beat.is_fresh():
        await asyncio.sleep(0.001)
    task.cancel()


async def test_the_end_does_not_wait_for_a_kafka_that_is_away(monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.01)
    kafka = Kept()
    kafka.confirms = False
    await Heartbeat(kafka, "workers", "g-1", 17).end()
    kafka.refusal = Unavailable("away")
    await Heartbeat(kafka, "workers", "g-1", 17).end()
