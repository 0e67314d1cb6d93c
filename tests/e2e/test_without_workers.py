"""A model without a worker: a request that is late or cancelled gets its answer all the same."""

import asyncio
import time
import uuid
from pathlib import Path

import pytest
from tests.stack import START_S, Stack

from headrace.contracts import headers as h
from headrace.contracts import replies, requests
from headrace.contracts.events import Cancel
from headrace.contracts.requests import RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.core.ports import Outgoing
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

pytestmark = pytest.mark.timeout(180)

FUNCTION = """
schema: headrace.function/v1
name: nobody
engine: {kind: echo}
scaling: {min_workers: 0, max_workers: 0}
"""
BODY = b'{"model": "nobody", "messages": [{"role": "user", "content": "is anybody there?"}]}'


async def test_late_and_cancelled_are_answered_and_the_others_wait(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text(FUNCTION)
    done = await asyncio.to_thread(stack.run, "deploy", str(tmp_path))
    assert done.returncode == 0, done.stderr
    kafka = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    topics, run = kafka.topics, uuid.uuid4().hex[:8]
    producer = Producer(kafka, source="test")
    await producer.start()

    async def send(name: str, topic: str, expires_s: float) -> str:
        head = RequestHead(id=f"{name}-{run}", source="/test", expires_at_s=time.time() + expires_s)
        await (await producer.send(Outgoing(topic, BODY, headers=requests.write(head))))
        return head.id

    try:
        async with PartitionReader(kafka, {topics.results: None}, at="end") as reader:
            waiting = await send("waiting", topics.requests("nobody", Lane.DEFAULT), 600)
            late = await send("late", topics.requests("nobody", Lane.FLEX), 1)
            unwanted = await send("unwanted", topics.requests("nobody", Lane.DEFAULT), 600)
            cancel = Cancel(request_id=unwanted, reason="test", sent_at_s=time.time())
            await (await producer.send(Outgoing(topics.control, cancel.encode(), unwanted.encode())))
            states: dict[str, State | None] = {}
            async with asyncio.timeout(START_S):
                while len(states) < 2:
                    for record in await reader.poll(1.0):
                        name = record.headers[h.CAUSATION_ID].decode()
                        if name.endswith(run):
                            states[name] = replies.final_state(record.headers)
            assert states == {late: State.EXPIRED, unwanted: State.CANCELLED}
            # With a worker, only the one that waits is left to do.
            (tmp_path / "function.yaml").write_text(
                FUNCTION.replace("min_workers: 0, max_workers: 0", "min_workers: 1")
            )
            await asyncio.to_thread(stack.deploy, tmp_path)
            async with asyncio.timeout(START_S):
                while waiting not in states:
                    for record in await reader.poll(1.0):
                        name = record.headers[h.CAUSATION_ID].decode()
                        assert name not in (late, unwanted), "answered twice"
                        states[name] = replies.final_state(record.headers)
            assert states[waiting] is State.COMPLETED
    finally:
        await producer.stop()
