"""Workers are killed while they work: nothing is lost, and what is done twice is what the fault table says.

The killed worker's requests are redone: those in flight, and those finished since its last commit (100 ms).
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter

import pytest
from tests.stack import START_S, Stack

from headrace.contracts import headers as h
from headrace.contracts import replies, requests
from headrace.contracts.requests import RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.core.ports import Outgoing
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 4
REQUESTS = 3_000
KILLS = 8
SLOTS = 16
FUNCTION = f"""
schema: headrace.function/v1
name: echo
engine: {{kind: echo, args: {{slots: {SLOTS}, token_ms: 10, output_tokens: 10}}}}
scaling: {{min_workers: 3, max_workers: 3}}
"""
BODY = b'{"model": "echo", "messages": [{"role": "user", "content": "chaos"}]}'


@pytest.fixture
def stack(tmp_path):
    folder = tmp_path / "echo"
    folder.mkdir()
    (folder / "function.yaml").write_text(FUNCTION)
    stack = Stack(tmp_path, functions=[folder])
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


async def test_killed_workers_lose_nothing(stack):
    kafka = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    producer = Producer(kafka, source="chaos")
    await producer.start()
    async with PartitionReader(kafka, {kafka.topics.results: None}, at="end") as reader:
        publishing = asyncio.create_task(publish(producer, kafka.topics.requests("echo", Lane.DEFAULT)))
        kills = asyncio.create_task(kill(stack))
        finals = await collect(reader)
        killed = await kills
        await publishing
        for record in await reader.poll(2.0):
            count(record, finals)
    await producer.stop()
    assert killed == KILLS
    assert len(finals) == REQUESTS, "nothing is lost"
    assert set(finals.values()) <= set(range(1, KILLS + 2))
    twice = sum(times - 1 for times in finals.values())
    print(f"{KILLS} kills, {twice} of {REQUESTS} results came again")
    # In flight when killed: computed again, answered once. Finished since the last commit: answered again.
    # A worker finishes at most SLOTS in the 100 ms that a request takes, and commits every 100 ms.
    assert twice <= KILLS * SLOTS * 2


async def publish(producer, topic):
    """Some 150 a second, three busy workers' worth being 480."""
    for number in range(REQUESTS):
        head = RequestHead(id=f"chaos-{number}", source="/chaos")
        await (await producer.send(Outgoing(topic, BODY, headers=requests.write(head))))
        await asyncio.sleep(0.004)


async def kill(stack):
    """End a worker by SIGKILL, at random moments, whenever there are some that are ready."""
    chance = random.Random(SEED)
    killed = 0
    while killed < KILLS:
        await asyncio.sleep(chance.uniform(0.5, 2.5))
        status = await asyncio.to_thread(stack.status)
        ready = sorted(worker["pid"] for worker in status["workers"] if worker["state"] == "ready")
        if ready:
            os.kill(chance.choice(ready), signal.SIGKILL)
            killed += 1
    return killed


async def collect(reader):
    finals = Counter()
    until_s = time.monotonic() + 3 * START_S
    while len(finals) < REQUESTS and time.monotonic() < until_s:
        for record in await reader.poll(1.0):
            count(record, finals)
    return finals


def count(record, finals):
    assert replies.final_state(record.headers) is State.COMPLETED, record
    finals[record.headers[h.CAUSATION_ID]] += 1
