"""`python -m loadtests.batches`: how fast a batch is queued and run, and what the dispatcher's memory does.

Queueing is measured on a model without workers, from the first record on its lane to the last, beside a bare
aiokafka producer that publishes records with the same headers and values to a topic like it, on the same
broker. Running is measured on `echo`, with batches of two sizes one after the other: the dispatcher's memory
must not grow with them.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import psutil
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from headrace.contracts import requests
from headrace.contracts.topics import Lane, Topics
from loadtests.kafka_client import PRODUCER, create_topics
from loadtests.measures import median
from loadtests.processes import ROOT
from loadtests.stack import StackError, Target, embedded

GOAL_OF_BARE: Final = 0.5
GOAL_GROWTH_MIB: Final = 40.0
_MIB: Final = 1 << 20
_BARE_TOPIC: Final = "bare.requests"
_PATIENCE_S: Final = 480.0
_POLL_S: Final = 0.02
_FINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})
_IDLE: Final = """
schema: headrace.function/v1
name: idle
engine: {kind: echo}
scaling: {min_workers: 0, max_workers: 0}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A batch that was run: how long it took, and what the dispatcher needed at most."""

    lines: int
    duration_s: float
    peak_mib: float


class Rig:
    """A stack with a model that has workers and one that has none."""

    def __init__(self, target: Target, http: httpx.AsyncClient) -> None:
        self._target = target
        self._http = http
        self._dispatcher = psutil.Process(target.pids["dispatcher"])

    async def run(self, lines: int) -> Run:
        """Run a batch to its end on `echo`."""
        began_s = time.perf_counter()
        batch = await self.create("echo", lines)
        peak = 0
        while batch["status"] not in _FINAL:
            await asyncio.sleep(0.1)
            peak = max(peak, self._dispatcher.memory_info().rss)
            batch = (await self._http.get(f"/v1/batches/{batch['id']}")).json()
        counts = batch["request_counts"]
        if batch["status"] != "completed" or counts["completed"] != lines:
            raise StackError(f"batch {batch['id']} is {batch['status']} with {counts}")
        return Run(lines, time.perf_counter() - began_s, peak / _MIB)

    async def queue(self, lines: int) -> float:
        """Lines a second at which a batch is queued."""
        topic = Topics().requests("idle", Lane.FLEX)

        async def begin() -> None:
            await self.create("idle", lines)

        return await self._grown(topic, lines, begin)

    async def publish(self, lines: int) -> float:
        """Records a second that a bare producer publishes, as like the batch's as can be."""
        topic = Topics().requests("idle", Lane.FLEX)
        headers, partitions = await self._example(topic)
        await create_topics(self._target.bootstrap_servers, {_BARE_TOPIC: partitions})
        values = [orjson.dumps(orjson.loads(_line("idle", number))["body"]) for number in range(lines)]
        async with AIOKafkaProducer(bootstrap_servers=self._target.bootstrap_servers, **PRODUCER) as producer:
            began_s = time.perf_counter()
            for first in range(0, lines, 1000):
                sent = [
                    await producer.send(_BARE_TOPIC, value, headers=headers, partition=number % partitions)
                    for number, value in enumerate(values[first : first + 1000])
                ]
                await asyncio.gather(*sent)
            return lines / (time.perf_counter() - began_s)

    async def create(self, model: str, lines: int) -> dict[str, Any]:
        """Upload and begin."""
        content = b"\n".join(_line(model, number) for number in range(lines))
        files = {"file": ("in.jsonl", content)}
        file = (await self._http.post("/v1/files", files=files, data={"purpose": "batch"})).json()
        body = {"input_file_id": file["id"], "endpoint": requests.CHAT, "completion_window": "24h"}
        made: dict[str, Any] = (await self._http.post("/v1/batches", json=body)).json()
        return made

    async def _example(self, topic: str) -> tuple[list[tuple[str, bytes]], int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._target.bootstrap_servers, group_id=None)
        await consumer.start()
        try:
            partitions = await _partitions(consumer, topic)
            consumer.assign(partitions[:1])
            await consumer.seek_to_beginning()
            record = await consumer.getone()
            return list(record.headers), len(partitions)
        finally:
            await consumer.stop()

    async def _grown(self, topic: str, lines: int, begin: Callable[[], Awaitable[None]]) -> float:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._target.bootstrap_servers, group_id=None)
        await consumer.start()
        try:
            partitions = await _partitions(consumer, topic)
            before = sum((await consumer.end_offsets(partitions)).values())
            await begin()
            began_s, began_at = 0.0, 0
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    here = sum((await consumer.end_offsets(partitions)).values()) - before
                    now_s = time.perf_counter()
                    if here and not began_s:
                        began_s, began_at = now_s, here
                    if here >= lines:
                        return (lines - began_at) / (now_s - began_s)
                    await asyncio.sleep(_POLL_S)
        finally:
            await consumer.stop()


async def _partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    while True:
        found = await consumer._client.fetch_all_metadata()
        numbers = found.partitions_for_topic(topic)
        if numbers:
            return [TopicPartition(topic, number) for number in sorted(numbers)]
        await asyncio.sleep(_POLL_S)


def _line(model: str, number: int) -> bytes:
    messages = [{"role": "user", "content": f"Say {number} and nothing else, please."}]
    body = {"model": model, "messages": messages, "max_tokens": 64}
    return orjson.dumps({"custom_id": f"line-{number}", "method": "POST", "url": requests.CHAT, "body": body})


async def measure(small: int, large: int, rounds: int) -> None:
    """Measure and print."""
    limit = {"HEADRACE_BATCHES_MAX_LINES": str(large)}
    async with _rig(limit) as rig:
        await rig.run(100)  # what is loaded by the first batch
        runs = [await rig.run(lines) for lines in (small, large)]
    for run in runs:
        rate = run.lines / run.duration_s
        print(f"{run.lines:>8} lines in {run.duration_s:6.1f} s, {rate:6.0f} a second; ", end="")
        print(f"dispatcher at most {run.peak_mib:.0f} MiB")
    growth_mib = runs[1].peak_mib - runs[0].peak_mib
    print(f"memory grew by {growth_mib:.0f} MiB from {small} to {large} lines; ", end="")
    print(f"goal <= {GOAL_GROWTH_MIB:.0f} MiB: {_verdict(met=growth_mib <= GOAL_GROWTH_MIB)}", flush=True)

    # Without workers nothing leaves the window, so it must hold every line of every round.
    window = {"HEADRACE_BATCHES_WINDOW_LINES": str(large)}
    ratios = []
    async with _rig(limit | window) as rig:
        await rig.queue(large)  # its code, and Kafka's, is warm then
        for number in range(rounds):
            queued, bare = await rig.queue(large), await rig.publish(large)
            ratios.append(queued / bare)
            told = f"queued {queued:.0f} lines a second, a bare producer {bare:.0f}"
            print(f"round {number + 1}: {told}", flush=True)
    ratio = median(ratios)
    print(
        f"queued at {ratio:.2f} of a bare producer's rate ({min(ratios):.2f} to {max(ratios):.2f}); ", end=""
    )
    print(f"goal >= {GOAL_OF_BARE}: {_verdict(met=ratio >= GOAL_OF_BARE)}")


@asynccontextmanager
async def _rig(changes: Mapping[str, str]) -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="headrace-load-") as folder:
        idle = Path(folder) / "idle"
        idle.mkdir()
        (idle / "function.yaml").write_text(_IDLE)
        options = ROOT / "functions" / "echo"
        async with (
            embedded(options, changes=changes, more=[idle]) as target,
            httpx.AsyncClient(base_url=target.http_url, timeout=_PATIENCE_S) as http,
        ):
            yield Rig(target, http)


def _verdict(*, met: bool) -> str:
    return "met" if met else "MISSED"


def main() -> int:
    """Parse, measure; 1 when a line was not answered."""
    parser = argparse.ArgumentParser(prog="loadtests.batches", description=__doc__)
    parser.add_argument("--small", type=int, default=10_000, help="lines of the small batch")
    parser.add_argument("--large", type=int, default=100_000, help="lines of the large batch")
    parser.add_argument("--rounds", type=int, default=3, help="of queueing and of publishing, in turns")
    given = parser.parse_args()
    try:
        uvloop.run(measure(given.small, given.large, given.rounds))
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
