"""`python -m loadtests.redelivery`: from `kill -9` of a worker to the next start of what it ran.

Two workers of engine `echo` run streamed requests of four seconds. Every chunk says which worker made it, so
the first chunk tells who has begun a request. One worker is killed while it runs some. Measured is the time
from the kill until the first chunk that another worker makes of one of these requests has reached the reply
topic; and until the last of them has been begun so. The engine's first token, 25 to 50 ms of it, and the way
back are in the figures.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
import psutil
import uvloop

from headrace.contracts import replies, requests
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.core.ports import Outgoing, Record
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings
from loadtests.kafka_client import create_topics, delete_topics
from loadtests.measures import median
from loadtests.stack import StackError, Target, embedded

GOAL_S: Final = 2.0
BURST: Final = 16
"""Requests for each kill; a worker has room for all of them."""
_FUNCTION: Final = """
schema: headrace.function/v1
name: echo
engine: {kind: echo, args: {slots: 64, token_ms: 25, output_tokens: 160}}
scaling: {min_workers: 2, max_workers: 2}
"""
_BODY: Final = orjson.dumps(
    {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "again"}]}
)
_PATIENCE_S: Final = 90.0
_SETTLE_S: Final = 3.0
"""After both workers serve: a rebalance that is still under way would be measured too."""


@dataclass(slots=True)
class Kill:
    """One kill: how many requests it hit, and how long they took to be begun elsewhere. NaN: never seen."""

    hit: int
    began_s: list[float] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        """Until the first of them was begun anew."""
        return min(self.began_s)

    @property
    def last_s(self) -> float:
        """Until the last was."""
        return max(self.began_s)


@dataclass(slots=True)
class Ledger:
    """What the reply topic has said. `runners`: request -> workers that began it, in order."""

    runners: dict[str, list[str]] = field(default_factory=dict)
    finals: dict[str, int] = field(default_factory=dict)
    wrong: int = 0

    def note(self, record: Record) -> tuple[str, str] | None:
        """The request and the worker, when this record is the first that this worker made of it."""
        head = replies.read(record.headers)
        worker = head.source.rpartition("/")[2]
        if head.state is not None:
            self.finals[head.causation_id] = self.finals.get(head.causation_id, 0) + 1
            self.wrong += head.state is not State.COMPLETED
        began = self.runners.setdefault(head.causation_id, [])
        if worker in began:
            return None
        began.append(worker)
        return head.causation_id, worker

    def running(self) -> dict[str, set[str]]:
        """Unfinished requests by the worker that began them last."""
        found: dict[str, set[str]] = {}
        for request, workers in self.runners.items():
            if request not in self.finals:
                found.setdefault(workers[-1], set()).add(request)
        return found


class Redelivery:
    """Publishes, kills and listens."""

    def __init__(self, target: Target, producer: Producer, reader: PartitionReader, reply_topic: str) -> None:
        self._scaler = target.pids["scaler"]
        self._producer = producer
        self._reader = reader
        self._reply = ReplyAddress(reply_topic)
        self._topic = KafkaSettings().topics.requests(target.model, Lane.DEFAULT)
        self.ledger = Ledger()
        self.sent: set[str] = set()

    async def kill(self) -> Kill:
        """One kill, from two workers that serve to every request answered."""
        await self._both_serve()
        await self._publish(BURST)
        await self._until(lambda: self._unseen() == 0, "all requests to be begun")
        pids = worker_pids(self._scaler)
        running = {name: of for name, of in self.ledger.running().items() if name in pids}
        victim = max(running, key=lambda name: len(running[name]))
        hit = running[victim]
        killed_s = time.perf_counter()
        os.kill(pids[victim], signal.SIGKILL)
        one = Kill(len(hit))
        left = set(hit)
        until_s = killed_s + _PATIENCE_S
        while left and time.perf_counter() < until_s:
            for request, worker, at_s in await self._listen():
                if request in left and worker != victim:
                    left.remove(request)
                    one.began_s.append(at_s - killed_s)
            # What the victim had finished, its final record being on the way when it was killed.
            left -= {n for n in left if self.ledger.runners[n][-1] == victim and n in self.ledger.finals}
        if left:
            raise StackError(f"{len(left)} of {len(hit)} requests were not begun within {_PATIENCE_S:.0f} s")
        if not one.began_s:
            raise StackError("the worker had just finished all that it ran when it was killed; run it again")
        await self._until(lambda: self.sent <= self.ledger.finals.keys(), "every request to be answered")
        return one

    async def _both_serve(self) -> None:
        """Publish, a few at a time, until two living workers have begun some of them, and let them settle."""
        until_s = time.perf_counter() + _PATIENCE_S
        before = set(self.sent)
        while True:
            await self._publish(4)
            for _ in range(10):
                await self._listen()
            fresh = {
                worker for request in self.sent - before for worker in self.ledger.runners.get(request, ())
            }
            if len(fresh & worker_pids(self._scaler).keys()) >= 2:
                break
            if time.perf_counter() > until_s:
                raise StackError(f"two workers did not serve within {_PATIENCE_S:.0f} s")
        settled_s = time.perf_counter() + _SETTLE_S
        while time.perf_counter() < settled_s:
            await self._listen()

    def _unseen(self) -> int:
        return len(self.sent - self.ledger.runners.keys())

    async def _publish(self, count: int) -> None:
        for _ in range(count):
            head = RequestHead(id=f"again-{uuid.uuid4().hex}", source="/loadtests", reply=self._reply)
            out = Outgoing(self._topic, _BODY, head.id.encode(), headers=requests.write(head))
            await (await self._producer.send(out))
            self.sent.add(head.id)

    async def _listen(self) -> list[tuple[str, str, float]]:
        records = await self._reader.poll(0.1)
        now_s = time.perf_counter()
        return [(*began, now_s) for record in records if (began := self.ledger.note(record)) is not None]

    async def _until(self, is_so: Callable[[], bool], what: str) -> None:
        until_s = time.perf_counter() + _PATIENCE_S
        while not is_so():
            if time.perf_counter() > until_s:
                raise StackError(f"waited {_PATIENCE_S:.0f} s for {what}")
            await self._listen()


def worker_pids(scaler: int) -> dict[str, int]:
    """Worker processes below our own stack's scaler, by worker id."""
    found = {}
    for child in psutil.Process(scaler).children(recursive=True):
        try:
            command = child.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "worker" in command and "--id" in command:
            found[command[command.index("--id") + 1]] = child.pid
    return found


@asynccontextmanager
async def _stage() -> AsyncIterator[Redelivery]:
    with tempfile.TemporaryDirectory(prefix="headrace-redelivery-") as folder:
        function = Path(folder) / "echo"
        function.mkdir()
        (function / "function.yaml").write_text(_FUNCTION)
        async with embedded(function) as target:
            # Callers may name reply topics that end so; see WorkerSettings.reply_topics.
            topic = f"loadtests.{uuid.uuid4().hex[:8]}.replies"
            kafka = KafkaSettings(bootstrap_servers=target.bootstrap_servers)
            await create_topics(target.bootstrap_servers, {topic: 1})
            producer = Producer(kafka, source="loadtests")
            await producer.start()
            try:
                async with PartitionReader(kafka, {topic: None}, at="end") as reader:
                    yield Redelivery(target, producer, reader, topic)
            finally:
                await producer.stop()
                await delete_topics(target.bootstrap_servers, [topic])


async def measure(kills: int) -> bool:
    """Kill so often, and print; whether every request was answered rightly."""
    load = os.getloadavg()
    async with _stage() as stage:
        done = []
        for number in range(1, kills + 1):
            one = await stage.kill()
            done.append(one)
            print(f"kill {number}: {one.hit} in flight; begun again, first {one.first_s:.2f} s, "
                  f"last {one.last_s:.2f} s", flush=True)  # fmt: skip
        ledger, sent = stage.ledger, stage.sent
    firsts, lasts = [one.first_s for one in done], [one.last_s for one in done]
    verdict = "met" if max(firsts) <= GOAL_S else "MISSED"
    goal = f"goal max <= {GOAL_S:g} s: {verdict}"
    print("\nredelivery: kill -9 of one of two workers, until its requests are begun by another")
    print(f"  first request: median {median(firsts):.2f} s, max {max(firsts):.2f} s; {goal}")
    print(f"  last request:  median {median(lasts):.2f} s, max {max(lasts):.2f} s")
    lost = len(sent - ledger.finals.keys())
    twice = sum(times - 1 for times in ledger.finals.values())
    print(f"  {kills} kills, {sum(one.hit for one in done)} in flight; {len(sent)} requests: "
          f"{lost} lost, {ledger.wrong} wrong, {twice} answered twice; "
          f"load average before {load[0]:.1f}, after {os.getloadavg()[0]:.1f}")  # fmt: skip
    return not lost and not ledger.wrong


def main() -> int:
    """Exit code 0, 1 when a request was lost or answered wrongly, 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.redelivery", description=__doc__)
    parser.add_argument("--kills", type=int, default=7, help="how often (default 7)")
    options = parser.parse_args()
    if options.kills < 1:
        parser.error("--kills must be at least 1")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return 0 if uvloop.run(measure(options.kills)) else 1
    except StackError as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("loadtests: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
