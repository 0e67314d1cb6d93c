"""What chaos tests share: a stack of their own, a load whose answers are counted, and faults to inject."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import psutil
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

YOUNG_S: Final = 12.0
ROLES: Final = ("worker", "gateway", "dispatcher", "scaler")


def function(folder: Path, text: str) -> Path:
    """A function's folder."""
    folder.mkdir()
    (folder / "function.yaml").write_text(text)
    return folder


def body(text: str = "chaos") -> bytes:
    """A chat request."""
    return b'{"model": "echo", "messages": [{"role": "user", "content": "%s"}]}' % text.encode()


class Run(NamedTuple):
    """Who answered, and when."""

    worker: str
    at_s: float


class Fault(NamedTuple):
    """What was done to whom, and when. `worker`: its id, for a worker."""

    what: str
    worker: str | None
    at_s: float


@dataclass
class Answers:
    """Final answers by request id: how many came, with which state last, by which runs and when."""

    times: Counter[str] = field(default_factory=Counter)
    states: dict[str, State] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)

    @property
    def repeated(self) -> dict[str, list[Run]]:
        """The runs of those that came more than once, to look at when a test fails."""
        return {name: runs for name, runs in self.runs.items() if len(runs) > 1}

    @property
    def again(self) -> int:
        """How many came more than once."""
        return sum(self.times.values()) - len(self.times)

    def take(self, record: Record) -> None:
        """Count a record of `results`."""
        state = replies.final_state(record.headers)
        assert state is not None, record
        request_id = record.headers[h.CAUSATION_ID].decode()
        self.times[request_id] += 1
        self.states[request_id] = state
        worker = record.headers[h.RUN].decode().partition(":")[2]
        self.runs.setdefault(request_id, []).append(Run(worker, record.timestamp_ms / 1000))


class Load:
    """Publishes requests to the model `echo` and reads `results`."""

    def __init__(self, kafka: KafkaSettings, producer: Producer, reader: PartitionReader) -> None:
        self._topic = kafka.topics.requests("echo", Lane.DEFAULT)
        self._producer = producer
        self._reader = reader
        self.answers = Answers()
        self.sent = 0

    async def publish(
        self, count: int, pause_s: float, say: Callable[[int], str] = lambda _: "chaos"
    ) -> None:
        """Publish so many, each when the one before is durable; `say` gives the message."""
        for number in range(self.sent, self.sent + count):
            head = RequestHead(id=f"chaos-{number}", source="/chaos")
            record = Outgoing(self._topic, body(say(number)), headers=requests.write(head))
            while True:
                try:
                    await (await self._producer.send(record))
                    break
                except Exception:  # noqa: BLE001  # the broker is down: as any publisher, try again
                    await asyncio.sleep(0.2)
            self.sent += 1
            await asyncio.sleep(pause_s)

    async def collect(self, count: int, timeout_s: float = 3 * START_S) -> None:
        """Read until so many requests have an answer."""
        until_s = time.monotonic() + timeout_s
        while len(self.answers.times) < count and time.monotonic() < until_s:
            await self.poll(1.0)

    async def poll(self, timeout_s: float) -> None:
        """Read what there is."""
        for record in await self._reader.poll(timeout_s):
            self.answers.take(record)


@asynccontextmanager
async def load(stack: Stack) -> AsyncIterator[Load]:
    """A load on the stack."""
    kafka = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers, send_timeout_s=5.0)
    producer = Producer(kafka, source="chaos")
    await producer.start()
    try:
        async with PartitionReader(kafka, {kafka.topics.results: None}, at="end") as reader:
            yield Load(kafka, producer, reader)
    finally:
        await producer.stop()


class Faults:
    """Sends signals to the stack's processes, chosen by a seeded chance."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self.chance = random.Random(seed)
        self.done: list[Fault] = []

    @property
    def sent(self) -> Counter[str]:
        """How many of each kind."""
        return Counter(fault.what for fault in self.done)

    def send(self, role: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """A signal to one process of the role; whether there was one."""
        found = self._find(role)
        if not found:
            return False
        process = self.chance.choice(found)
        self.done.append(Fault(role, worker_id(process), time.time()))
        process.send_signal(number)
        return True

    async def pause(self, role: str, seconds: float) -> bool:
        """SIGSTOP to one process of the role, and SIGCONT after a while; whether there was one."""
        found = self._find(role)
        if not found:
            return False
        process = self.chance.choice(found)
        self.done.append(Fault("pause", worker_id(process), time.time()))
        process.suspend()
        try:
            await asyncio.sleep(seconds)
        finally:
            if process.is_running():
                process.resume()
        return True

    def _find(self, role: str) -> list[psutil.Process]:
        """Processes to choose from; a supervisor gives up on what dies young five times in a row."""
        assert self._stack.is_running, f"the stack is gone: {self._stack.said[-2000:]}"
        found = [process for process in self._stack.processes() if role_of(process) == role]
        old_s = time.time() - (0.0 if role == "worker" else YOUNG_S)
        return sorted((p for p in found if p.create_time() < old_s), key=lambda process: process.pid)


def role_of(process: psutil.Process) -> str | None:
    """`worker`, `gateway`, `dispatcher`, `scaler`, `kafka`, or None for anything else."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return None
    if "kafka.Kafka" in command:
        return "kafka"
    return next((word for word in command[1:6] if word in ROLES), None)


def worker_id(process: psutil.Process) -> str | None:
    """The id of a worker; None for any other process."""
    command = process.cmdline()
    return command[command.index("--id") + 1] if "--id" in command else None
