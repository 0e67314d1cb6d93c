"""The HTTP surface on the whole stack: HTTP, Kafka, worker, Kafka, HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import orjson
import pytest
from tests.stack import Second, Stack

from headrace.contracts.requests import CHAT, COMPLETIONS
from headrace.contracts.topics import Topics
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

SLOW = "gateway-test/slow-1.5"
"""An echo that takes its time, under a name that is awkward in paths and topics."""

MANIFEST = f"""
schema: headrace.function/v1
name: {SLOW}
engine:
  kind: echo
  args: {{ token_ms: 50 }}
limits:
  max_body_bytes: 8000
"""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def slow(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("slow")
    (folder / "function.yaml").write_text(MANIFEST)
    stack.deploy(folder)
    return SLOW


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.http_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def second(stack: Stack) -> Iterator[Second]:
    gateway = Second(stack)
    yield gateway
    gateway.stop()


MINUTE = "word " * 1200
"""What the slow model needs a minute for."""


def chat(text: str, model: str = "echo", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def until_in_flight(stack: Stack, count: int) -> None:
    """Wait until the slow model's worker says that it runs so many."""
    topic = Topics().workers
    async with (
        PartitionReader(
            KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers), {topic: None}
        ) as reader,
        asyncio.timeout(30),
    ):
        while True:
            for record in await reader.poll(1.0):
                said = orjson.loads(record.value or b"{}")
                fresh = time.time() - said.get("sent_at_s", 0.0) < 4
                if fresh and said.get("model") == SLOW and said["in_flight"] == count:
                    return


async def test_a_chat_and_a_completion(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=chat("good morning"))
    assert answer.status_code == 200
    assert answer.headers["x-request-id"].startswith("req_")
    said = answer.json()
    assert said["choices"][0]["message"]["content"] == "good morning"
    assert said["id"].endswith(answer.headers["x-request-id"].removeprefix("req_"))
    answer = await client.post(COMPLETIONS, json={"model": "echo", "prompt": "good evening"})
    assert answer.json()["choices"][0]["text"] == "good evening"


@pytest.mark.parametrize("tier", ["priority", "flex", "auto"])
async def test_every_lane_is_served(client: httpx.AsyncClient, tier: str) -> None:
    answer = await client.post(CHAT, json=chat("hello", service_tier=tier))
    assert answer.json()["choices"][0]["message"]["content"] == "hello"


async def test_a_stream_comes_while_it_is_made(client: httpx.AsyncClient, slow: str) -> None:
    times: list[float] = []
    text = ""
    body = chat("one two three four five six seven eight", slow, stream=True)
    async with client.stream("POST", CHAT, json=body | {"stream_options": {"include_usage": True}}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = [line async for line in _timed(answer, times) if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [orjson.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == "one two three four five six seven eight"
    assert chunks[-1]["usage"]["completion_tokens"] == 8
    assert times[-1] - times[0] > 0.2  # eight steps of 50 ms lie between


async def _timed(answer: httpx.Response, times: list[float]) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        times.append(time.monotonic())
        yield line


async def test_an_error_of_the_engine_has_its_status_in_streams_too(client: httpx.AsyncClient) -> None:
    for stream in (False, True):
        answer = await client.post(CHAT, json=chat("x", n=2, stream=stream))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


async def test_models_are_found_by_names_with_slashes(client: httpx.AsyncClient, slow: str) -> None:
    listed = (await client.get("/v1/models")).json()["data"]
    assert {"echo", slow} <= {model["id"] for model in listed}
    for name in (slow, slow.replace("/", "%2F")):
        assert (await client.get(f"/v1/models/{name}")).json()["id"] == slow
        ready = await client.get(f"/v2/models/{name}/ready")
        assert (ready.status_code, ready.headers["x-model-state"]) == (200, "warm")


async def test_refusals(client: httpx.AsyncClient, slow: str) -> None:
    wanted = {
        404: await client.post(CHAT, json=chat("x", "no-such-model")),
        413: await client.post(CHAT, json=chat("x" * 9000, slow)),
        415: await client.post(CHAT, content=b"{}"),
        400: await client.post(CHAT, content=b"{", headers={"content-type": "application/json"}),
        405: await client.get(CHAT),
    }
    for status, answer in wanted.items():
        assert answer.status_code == status == answer.json()["status"]
        assert answer.headers["x-request-id"]
        assert len(answer.json()["error"]["message"]) > 10


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_stops_the_work(
    stack: Stack, client: httpx.AsyncClient, slow: str, *, stream: bool
) -> None:
    started_s = time.monotonic()
    asking = asyncio.create_task(client.post(CHAT, json=chat(MINUTE, slow, stream=stream)))
    await until_in_flight(stack, 1)
    asking.cancel()
    await until_in_flight(stack, 0)
    assert time.monotonic() - started_s < 45


async def test_gateways_beside_each_other_answer_their_own_callers(
    client: httpx.AsyncClient, second: Second
) -> None:
    async with httpx.AsyncClient(base_url=second.url, timeout=60) as other:
        asked = [((client, other)[number % 2], f"question {number}") for number in range(60)]
        answers = await asyncio.gather(*(door.post(CHAT, json=chat(text)) for door, text in asked))
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [text for _, text in asked]


async def test_a_gateway_that_is_told_to_stop_finishes_what_it_has(stack: Stack, slow: str) -> None:
    gateway = await asyncio.to_thread(Second, stack)
    body = chat("word " * 40, slow, stream=True)  # two seconds
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
        client.stream("POST", CHAT, json=body) as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        rest = [line async for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert await stopping == 0
