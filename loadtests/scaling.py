"""`python -m loadtests.scaling`: workers from none to many and back, on the whole stack, by the clock.

Four parts, each on a stack of its own with the engine `echo`, whose start takes two seconds:

- from none: one request to a model without workers, time after time. Measured: until its worker is started
  (as the scaler's decision says), and until its answer is there.
- a burst: 600 seconds of work at once. Measured: the number of workers over time against the formula's, and
  when all is done and the last worker has gone.
- cycles: bursts, each followed by none. Counted: requests that were lost, answered twice, or run twice.
- failover: kill -9 of the scaler that acts, beside one that stands by. Measured: until another acts. Counted:
  workers that were started twice.
"""

import argparse
import asyncio
import logging
import math
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import httpx
import uvloop

from headrace.contracts import headers as h
from headrace.contracts.decisions import Decision, Leader
from headrace.contracts.events import WorkerHeartbeat
from headrace.contracts.topics import Topics
from headrace.core.calibration import quantile
from headrace.core.ports import Record
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings
from loadtests.processes import Child
from loadtests.stack import StackError, Target, embedded

_TOPICS: Final = Topics()
_PATIENCE_S: Final = 300.0
_COLD_S: Final = 2.0
_TOKEN_MS: Final = 100
_BURST_WORK_S: Final = 600.0
_BURST_DRAIN_S: Final = 100.0
_MOST: Final = 12
_FAILOVER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A model: its requests take `tokens` steps of 100 ms in one of four slots."""

    tokens: int
    most: int
    drain_target_s: float
    idle_s: float

    @property
    def work_s(self) -> float:
        """Of one full worker, for a request."""
        return self.tokens * _TOKEN_MS / 1000 / 4

    @property
    def manifest(self) -> str:
        """As `function.yaml`."""
        args = f"slots: 4, token_ms: {_TOKEN_MS}, step_batching: false, output_tokens: {self.tokens}"
        dials = f"min_workers: 0, max_workers: {self.most}, drain_target_s: {self.drain_target_s}"
        return (
            "schema: headrace.function/v1\nname: elastic\n"
            f"engine: {{kind: echo, args: {{{args}, start_ms: {_COLD_S * 1000:g}}}}}\n"
            f"scaling: {{{dials}, idle_s: {self.idle_s}}}\n"
        )


class Site:
    """A stack with the model, and what is read from its topics."""

    def __init__(self, target: Target, http: httpx.AsyncClient) -> None:
        self.http = http
        self._settings = KafkaSettings(bootstrap_servers=target.bootstrap_servers)
        self._target = target

    async def ask(self, prefer: str) -> httpx.Response:
        """One request."""
        body = {"model": "elastic", "messages": [{"role": "user", "content": "hello"}]}
        answer = await self.http.post("/v1/chat/completions", json=body, headers={"prefer": prefer})
        return answer.raise_for_status()

    async def submit(self, number: int) -> set[str]:
        """So many jobs, as fast as the gateway takes them; their ids."""
        gate = asyncio.Semaphore(64)

        async def one() -> str:
            async with gate:
                return str((await self.ask("respond-async")).json()["id"])

        return set(await asyncio.gather(*(one() for _ in range(number))))

    async def read(self, topic: str) -> Sequence[Record]:
        """All of a topic."""
        async with PartitionReader(self._settings, {topic: None}) as reader:
            return await reader.read_to_end()

    async def decisions(self) -> list[Decision]:
        """All that there were."""
        return [Decision.decode(each.value or b"") for each in await self.read(_TOPICS.decisions)]

    async def answers(self) -> Counter[str]:
        """How often each request was answered."""
        records = await self.read(_TOPICS.results)
        return Counter(record.headers[h.CAUSATION_ID].decode() for record in records)

    async def until_none(self) -> None:
        """Wait until no worker is left."""
        async with asyncio.timeout(_PATIENCE_S):
            while await self._alive():
                await asyncio.sleep(0.3)

    async def until_done(self, names: set[str]) -> None:
        """Wait until all are answered."""
        async with asyncio.timeout(_PATIENCE_S):
            while not names <= (await self.answers()).keys():
                await asyncio.sleep(0.5)

    async def scaler(self) -> Child:
        """One more, which stands by."""
        return await Child.start("-m", "headrace", "scaler", changes=self._target.environment)

    async def runs(self) -> int:
        """Requests that workers have run to their ends, by what each said last."""
        last = {
            beat.id: beat.completed
            for beat in (
                WorkerHeartbeat.decode(record.value)
                for record in await self.read(_TOPICS.workers)
                if record.value is not None and b'"kind":"worker"' in record.value
            )
        }
        return sum(last.values())

    async def leaders(self) -> list[Leader]:
        """Whoever acted, one after the other."""
        records = await self.read(_TOPICS.scaler)
        return [Leader.decode(each.value or b"") for each in records if each.key == b"leader"]

    async def _alive(self) -> bool:
        """Whether there is any worker."""
        alive: dict[bytes, WorkerHeartbeat] = {}
        for record in await self.read(_TOPICS.workers):
            key = record.key or b""
            if record.value is None:
                alive.pop(key, None)
            elif b'"kind":"worker"' in record.value:
                alive[key] = WorkerHeartbeat.decode(record.value)
        return bool(alive)


@asynccontextmanager
async def site(shape: Shape, changes: dict[str, str]) -> AsyncIterator[Site]:
    """A stack with the model, whose scaler is in such a hurry."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "function.yaml").write_text(shape.manifest)  # noqa: ASYNC240
        async with (
            embedded(Path(folder), "elastic", changes) as target,
            httpx.AsyncClient(base_url=target.http_url, timeout=120) as http,
        ):
            yield Site(target, http)


async def from_none(times: int) -> bool:
    """One request to no worker, time after time."""
    started, answered = [], []
    async with site(Shape(1, 1, 30.0, 0.5), {}) as here:
        for _ in range(times + 1):
            await here.until_none()
            asked_s = time.time()
            await here.ask("wait=60")
            took_s = time.time() - asked_s
            starts = [each for each in await here.decisions() if each.actions and each.target == 1]
            started.append(starts[-1].at_s - asked_s)
            answered.append(took_s - _TOKEN_MS / 1000)
    # The first has no bytecode, no topics and no group yet.
    started, answered = started[1:], answered[1:]
    for what, found, goal_s in (
        ("worker started after the event", started, 1.0),
        ("first result beyond the cold start", [each - _COLD_S for each in answered], 1.5),
    ):
        p50, p95 = quantile(found, 0.5), quantile(found, 0.95)
        verdict = "met" if p95 <= goal_s else "MISSED"
        sys.stdout.write(
            f"from none: {what}: p50 {p50:.2f} s, p95 {p95:.2f} s, most {max(found):.2f} s "
            f"of {len(found)}; goal p95 <= {goal_s} s: {verdict}\n"
        )
    return True


async def burst() -> bool:
    """600 seconds of work at once."""
    shape = Shape(20, _MOST, _BURST_DRAIN_S, 5.0)
    hurry = {"HEADRACE_SCALER_DOWN_WINDOW_S": "10", "HEADRACE_SCALER_DOWN_STEP_S": "2"}
    partitions = {"HEADRACE_KAFKA_PARTITIONS": str(_MOST)}
    async with site(shape, hurry | partitions) as here:
        for _ in range(3):  # what a request and a start cost is learned
            await here.ask("wait=60")
        await here.until_none()
        begun_s = time.time()
        names = await here.submit(round(_BURST_WORK_S / shape.work_s))
        await here.until_done(names)
        done_s = time.time() - begun_s
        await here.until_none()
        gone_s = time.time() - begun_s
        seen = [each for each in await here.decisions() if each.at_s >= begun_s]
        told = await here.answers()
    cold_s = seen[-1].cold_start_s
    right = math.ceil(_BURST_WORK_S / 0.8 / (_BURST_DRAIN_S - cold_s))
    most = max(each.target for each in seen)
    loading = max((each.target for each in seen if each.starting), default=0)
    for each in seen:
        if each.actions:
            sys.stderr.write(
                f"{each.at_s - begun_s:6.1f} s: {each.waiting} waiting, {each.running} running, "
                f"{each.warm} warm, {each.starting} starting -> {each.target}: {each.reason}\n"
            )
    wrong = sum(told[name] != 1 for name in names)
    sys.stdout.write(
        f"burst of {_BURST_WORK_S:.0f} s of work, target {_BURST_DRAIN_S:.0f} s, at most {_MOST} workers: "
        f"right by the formula {right} (cold start {cold_s:.1f} s, {seen[-1].work_s or 0:.3f} s a request); "
        f"most {most}, {loading} while some were starting; done after {done_s:.0f} s, none left after "
        f"{gone_s:.0f} s; {wrong} not answered once\n"
    )
    return wrong == 0


async def cycles(times: int) -> bool:
    """Out and in, with nothing lost or redone."""
    shape = Shape(5, 4, 2.0, 0.5)
    hurry = {
        "HEADRACE_SCALER_UP_STEP_S": "0.5",
        "HEADRACE_SCALER_DOWN_WINDOW_S": "0.5",
        "HEADRACE_SCALER_DOWN_STEP_S": "0.5",
    }
    names: set[str] = set()
    async with site(shape, hurry) as here:
        for number in range(times):
            names |= await here.submit(40)
            await here.until_done(names)
            if number % 5 != 4:
                # Not to none: others come while some are going.
                await asyncio.sleep(0.3 * (number % 5))
                continue
            await here.until_none()
        await here.until_none()
        told = await here.answers()
        seen = await here.decisions()
        runs = await here.runs()
    targets = [each.target for each in seen]
    changes = sum(a != b for a, b in pairwise(targets))
    starts = sum(action.startswith("start") for each in seen for action in each.actions)
    stops = sum(action.startswith("stop") for each in seen for action in each.actions)
    wrong = sum(told[name] != 1 for name in names)
    sys.stdout.write(
        f"cycles: {times} bursts, {len(names)} requests, {changes} changes of the target, {starts} starts, "
        f"{stops} stops, at most {max(targets)} workers; {wrong} not answered exactly once, "
        f"{runs - len(names)} run again (goals 0)\n"
    )
    return wrong == 0 and runs == len(names)


async def failover(times: int) -> bool:
    """The scaler that acts is killed while work waits and workers start."""
    took, twice = [], 0
    async with site(Shape(10, 4, 2.0, 0.5), {}) as here:
        standby = [await here.scaler() for _ in range(2)]
        try:
            for _ in range(times):
                before = await here.leaders()
                names = await here.submit(20)
                killed_s = time.time()
                os.kill(before[-1].pid, signal.SIGKILL)
                while len(await here.leaders()) == len(before):
                    await asyncio.sleep(0.05)
                took.append(time.time() - killed_s)
                await here.until_done(names)
                await here.until_none()
                standby.append(await here.scaler())
            actions = [action for each in await here.decisions() for action in each.actions]
        finally:
            for child in standby:
                await child.stop()
    starts = Counter(action.split()[1] for action in actions if action.startswith("start"))
    twice = sum(number > 1 for number in starts.values())
    verdict = "met" if max(took) <= _FAILOVER_S else "MISSED"
    sys.stdout.write(
        f"failover: kill -9 of the acting scaler, {times} times: another acts after "
        f"{quantile(took, 0.5):.1f} s, most {max(took):.1f} s (goal {_FAILOVER_S:g} s: {verdict}); "
        f"{twice} of {len(starts)} workers started twice\n"
    )
    return twice == 0


async def measure(parts: Sequence[str], times: int, number: int) -> bool:
    """Run the parts; whether nothing was lost."""
    fine = True
    if "none" in parts:
        fine &= await from_none(times)
    if "burst" in parts:
        fine &= await burst()
    if "cycles" in parts:
        fine &= await cycles(number)
    if "failover" in parts:
        fine &= await failover(max(1, times // 4))
    return fine


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="none,burst,cycles,failover", help="of the four, with commas")
    parser.add_argument("--times", type=int, default=20, help="requests to no worker")
    parser.add_argument("--cycles", type=int, default=50, help="bursts out and in")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    try:
        fine = uvloop.run(measure(given.parts.split(","), given.times, given.cycles))
    except StackError as error:
        raise SystemExit(f"scaling: {error}") from None
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
