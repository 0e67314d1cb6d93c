"""`headrace.Client`, `AsyncClient` and `Publisher` on a whole stack."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from tests.stack import Stack

from headrace import AsyncClient, Client, Publisher
from headrace.client.calls import Options
from headrace.client.publisher import Event
from headrace.contracts.errors import InvalidRequest, UnknownJob, UnknownModel
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.settings import KafkaSettings

CHAT = "/v1/chat/completions"


def body(text: str, **more: object) -> dict[str, object]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.http_url) as client:
        yield client


def test_a_job_from_submit_to_result(client: Client) -> None:
    job = client.submit(CHAT, body("hello there"), Options(cancel_after_s=60))
    assert not job.is_over
    done = client.wait(job.id, timeout_s=60)
    assert (done.status, done.attempts) == (State.COMPLETED, 1)
    assert done.result["choices"][0]["message"]["content"] == "hello there"
    assert b"hello there" in client.result(job.id)
    assert job.id in {each.id for each in client.jobs(status="completed")}
    assert client.cancel(job.id).status is State.COMPLETED
    client.delete(job.id)
    with pytest.raises(UnknownJob):
        client.job(job.id)


def test_an_answer_and_a_stream(client: Client) -> None:
    assert client.run(CHAT, body("at once"))["choices"][0]["message"]["content"] == "at once"
    job = client.submit(CHAT, body("one two three", stream=True))
    events = list(client.stream(job.id))
    chunks = [event for event in events if event.kind == "chunk"]
    text = "".join(chunk.data["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == "one two three"
    assert events[-1].kind == "completed"
    behind = [event for event in client.stream(job.id, chunks[0].id) if event.kind == "chunk"]
    assert behind == chunks[1:]


def test_errors_are_the_servers_own(client: Client) -> None:
    with pytest.raises(UnknownModel, match="There is no model 'nobody'"):
        client.submit(CHAT, body("x") | {"model": "nobody"})
    with pytest.raises(InvalidRequest) as told:
        client.run(CHAT, {"model": "echo"})
    assert told.value.param == "messages"


def test_one_key_is_one_job(client: Client) -> None:
    options = Options(idempotency_key=f"client-{time.time()}")
    assert len({client.submit(CHAT, body("once"), options).id for _ in range(3)}) == 1


async def test_the_asynchronous_twin(stack: Stack) -> None:
    async with AsyncClient(stack.http_url) as client:
        job = await client.submit(CHAT, body("hello", stream=True))
        kinds = [event.kind async for event in client.stream(job.id)]
        assert kinds[-1] == "completed"
        assert (await client.wait(job.id)).status is State.COMPLETED
        assert job.id in [each.id async for each in client.jobs()]
        assert (await client.run(CHAT, body("now")))["object"] == "chat.completion"


async def test_a_request_by_kafka_is_a_job_too(stack: Stack) -> None:
    kafka = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    name = f"order-{time.time()}"
    async with Publisher(kafka) as publisher, AsyncClient(stack.http_url) as client:
        place = await publisher.publish("echo", body("by event"), Event(id=name, lane=Lane.FLEX))
        assert place.topic == "headrace.requests.echo.flex"
        job = await client.wait(await _listed(client, name))
        assert job.result["choices"][0]["message"]["content"] == "by event"
        with pytest.raises(UnknownModel):
            await publisher.publish("nobody", body("x"))


async def _listed(client: AsyncClient, name: str) -> str:
    """An event's job is in the index a moment after it was published."""
    async with asyncio.timeout(30):
        while True:
            try:
                return (await client.job(name)).id
            except UnknownJob:
                await asyncio.sleep(0.1)
