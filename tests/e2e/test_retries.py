"""What an engine fails on is tried again after a while; then it is set aside and the caller is told."""

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from tests.stack import START_S, Stack

from headrace.contracts import headers as h
from headrace.contracts import replies, requests
from headrace.contracts.requests import RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.core.ports import Outgoing, Record
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

pytestmark = pytest.mark.timeout(180)

FUNCTION = """
schema: headrace.function/v1
name: moody
engine: {kind: echo, args: {fail_on: never}}
retry: {max_attempts: 2, delays: [5s]}
"""


async def answer_to(stack: Stack, text: str) -> tuple[Record, list[Record]]:
    """The answer to a request for the model, and what waited on the retry topic for it."""
    kafka = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    request_id = f"retry-{uuid.uuid4().hex}"
    body = b'{"model": "moody", "messages": [{"role": "user", "content": "%s"}]}' % text.encode()
    producer = Producer(kafka, source="test")
    await producer.start()
    watched = {kafka.topics.results: None, kafka.topics.retries("5s"): None}
    waited: list[Record] = []
    try:
        async with PartitionReader(kafka, watched, at="end") as reader, asyncio.timeout(START_S):
            head = RequestHead(id=request_id, source="/test")
            lane = kafka.topics.requests("moody", Lane.DEFAULT)
            await (await producer.send(Outgoing(lane, body, headers=requests.write(head))))
            while True:
                for record in await reader.poll(1.0):
                    if record.headers.get(h.ID) == request_id.encode():
                        waited.append(record)
                    if record.headers.get(h.CAUSATION_ID) == request_id.encode():
                        return record, waited
    finally:
        await producer.stop()


async def test_again_after_five_seconds_then_set_aside(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text(FUNCTION)
    await asyncio.to_thread(stack.deploy, tmp_path)
    answer, waited = await answer_to(stack, "now or never")
    assert len(waited) == 1
    assert answer.timestamp_ms - waited[0].timestamp_ms >= 5_000
    assert replies.final_state(answer.headers) is State.FAILED
    assert answer.headers[h.ATTEMPT] == b"2"
    assert json.loads(answer.value or b"")["error"]["code"] == "engine_failed"
    request_id = answer.headers[h.CAUSATION_ID].decode()
    listed = json.loads(stack.run("dead-letters", "list", "--json", "--model", "moody").stdout)
    assert [(letter["id"], letter["code"]) for letter in listed] == [(request_id, "engine_failed")]
    fine, waited = await answer_to(stack, "always")
    assert (replies.final_state(fine.headers), waited) == (State.COMPLETED, [])
