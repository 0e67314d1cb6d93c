"""A gateway killed with jobs and streams open: every job ends once, every stream goes on at another."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from tests.stack import Second, Stack

from headrace.contracts import headers as h
from headrace.contracts.topics import Topics
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

JOBS: Final = 500
STREAMS: Final = 50
WORDS: Final = 60
_FUNCTION: Final = """\
schema: headrace.function/v1
name: slow
engine: {kind: echo, args: {token_ms: 400, slots: 256}}
"""


@pytest.fixture
def loss_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("loss")
    (folder / "function.yaml").write_text(_FUNCTION)
    stack = Stack(folder, functions=[folder])
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@dataclass
class Seen:
    """What one reader of a stream has had."""

    last: str | None = None
    text: str = ""
    resets: int = 0
    end: dict[str, Any] | None = None
    names: Counter[str] = field(default_factory=Counter)

    def take(self, event: dict[str, str]) -> None:
        self.names[event["event"]] += 1
        self.last = event.get("id", self.last)
        if event["event"] == "chunk":
            self.text += json.loads(event["data"])["choices"][0]["delta"].get("content") or ""
        elif event["event"] == "reset":
            self.text, self.resets = "", self.resets + 1
        elif event["event"] != "status":
            self.end = json.loads(event["data"])


async def follow(client: httpx.AsyncClient, job_id: str, seen: Seen) -> None:
    """Read until the end, or until the connection breaks."""
    headers = {} if seen.last is None else {"last-event-id": seen.last}
    event: dict[str, str] = {}
    async with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif event.get("event"):
                seen.take(event)
                event = {}


async def submit(client: httpx.AsyncClient, number: int, *, stream: bool) -> str | None:
    """The id of a job that was accepted; None when the gateway died instead."""
    text = " ".join(f"{number}w{n}" for n in range(WORDS if stream else 3))
    body = {"model": "slow", "stream": stream, "messages": [{"role": "user", "content": text}]}
    try:
        answer = await client.post("/v1/chat/completions", json=body, headers={"prefer": "respond-async"})
    except httpx.HTTPError:
        return None
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest.mark.timeout(240)
async def test_a_gateway_is_killed_with_jobs_and_streams_open(loss_stack: Stack) -> None:
    doomed, limits = Second(loss_stack), httpx.Limits(max_connections=200)
    try:
        async with (
            httpx.AsyncClient(base_url=doomed.url, timeout=60, limits=limits) as first,
            httpx.AsyncClient(base_url=loss_stack.http_url, timeout=60, limits=limits) as other,
        ):
            await _lose_and_go_on(loss_stack, doomed, first, other)
    finally:
        doomed.stop()


async def _lose_and_go_on(
    stack: Stack, doomed: Second, first: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    names = await asyncio.gather(*(submit(first, n, stream=True) for n in range(STREAMS)))
    streams = [name for name in names if name is not None]
    assert len(streams) == STREAMS
    seen = {name: Seen() for name in streams}
    reading = [asyncio.create_task(follow(first, name, seen[name])) for name in streams]
    # httpx slows down by the square of what waits for a connection.
    at_once = asyncio.Semaphore(16)

    async def submit_one(number: int) -> str | None:
        async with at_once:
            return await submit(first, number, stream=False)

    submitting = [asyncio.create_task(submit_one(n)) for n in range(JOBS)]
    while sum(task.done() for task in submitting) < JOBS // 2 or not all(each.text for each in seen.values()):
        await asyncio.sleep(0.02)
    doomed.kill()
    jobs = [name for name in await asyncio.gather(*submitting) if name is not None]
    await asyncio.gather(*reading, return_exceptions=True)
    unfinished = [name for name in streams if seen[name].end is None]
    assert unfinished, "the gateway died before the streams had ended"
    assert len(jobs) >= JOBS // 2
    await asyncio.gather(*(follow(other, name, seen[name]) for name in unfinished))
    for number, name in enumerate(streams):
        end = seen[name].end
        assert end is not None
        assert end["status"] == "completed"
        assert seen[name].text == " ".join(f"{number}w{n}" for n in range(WORDS))
        assert not seen[name].resets, "no worker died, so nothing began anew"
    for name in jobs:
        job = (await other.get(f"/v1/jobs/{name}")).json()
        while job["status"] in ("queued", "in_progress"):
            await asyncio.sleep(0.2)
            job = (await other.get(f"/v1/jobs/{name}")).json()
        assert (job["id"], job["status"]) == (name, "completed")
    results = await _results(stack)
    assert {results[name] for name in jobs + streams} == {1}, "each has one result"


async def _results(stack: Stack) -> Counter[str]:
    """How often each request is in `results`."""
    kafka = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    async with PartitionReader(kafka, {Topics().results: None}) as reader:
        return Counter(record.headers[h.CAUSATION_ID].decode() for record in await reader.read_to_end())
