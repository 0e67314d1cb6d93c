"""The dispatcher in a running stack: results reach the database, bad records reach dead-letters."""

import asyncio
import json

import pytest
from tests.stack import Stack

from headrace.contracts import headers as h
from headrace.contracts.topics import Topics
from headrace.core.archive import FinalResult
from headrace.core.ports import Outgoing, Record
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import DatabaseSettings, KafkaSettings
from headrace.store.database import open_engine
from headrace.store.results import Results

pytestmark = pytest.mark.timeout(180)

_TOPICS = Topics()
_WAIT_S = 30.0


async def test_the_answer_to_an_event_reaches_the_database(stack: Stack) -> None:
    done = stack.run("publish", "echo", "keep this", "--wait-s", "30", "--json")
    assert done.returncode == 0, done.stderr
    request_id = json.loads(done.stdout)["id"]
    found = await _archived(stack, request_id)
    assert (found.state, found.http_status) == ("completed", 200)
    assert json.loads(found.body)["choices"][0]["message"]["content"] == "keep this"


async def test_a_record_that_is_no_result_becomes_a_dead_letter(stack: Stack) -> None:
    settings = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    producer = Producer(settings, source="test")
    await producer.start()
    try:
        async with PartitionReader(settings, {_TOPICS.dead_letters: None}, at="end") as reader:
            place = await (await producer.send(Outgoing(_TOPICS.results, b"nonsense", b"not-a-result")))
            dead = await _dead_letter(reader, b"not-a-result")
    finally:
        await producer.stop()
    assert dead.value == b"nonsense"
    assert dead.headers[h.ORIGIN_TOPIC] == _TOPICS.results.encode()
    assert dead.headers[h.ORIGIN_OFFSET] == str(place.offset).encode()
    assert dead.headers[h.ERROR_MESSAGE].startswith(b"Not a reply record")


async def _archived(stack: Stack, request_id: str) -> FinalResult:
    results = Results(open_engine(DatabaseSettings(url=stack.ready["database_url"])))
    try:
        async with asyncio.timeout(_WAIT_S):
            while (found := await results.get(request_id)) is None:
                await asyncio.sleep(0.1)
    finally:
        await results.close()
    return found


async def _dead_letter(reader: PartitionReader, key: bytes) -> Record:
    async with asyncio.timeout(_WAIT_S):
        while True:
            for record in await reader.poll(1.0):
                if record.key == key:
                    return record
