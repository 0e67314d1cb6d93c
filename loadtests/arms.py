"""The arms: each sends questions one way and returns what came back. All share one client per protocol."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from loadtests.answers import Answer, Question, Shape
from loadtests.http_client import Connection, post
from loadtests.kafka_client import KafkaClient

CHAT_PATH: Final = "/v1/chat/completions"
# A reply that comes a second time would follow on the heels of the first.
_SETTLE_S: Final = 0.2

Ask = Callable[[Question], Awaitable[Answer]]


@dataclass(slots=True)
class Run:
    """One round of one arm."""

    answers: list[Answer]
    wall_s: float = 0.0
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """How much at once, and when a round is given up (what is missing then is lost)."""

    concurrency: int
    limit_s: float = 120.0


class Arm(Protocol):
    """One way to ask."""

    @property
    def name(self) -> str:
        """Its name in the report."""
        ...

    @property
    def shape(self) -> Shape:
        """The bodies it takes."""
        ...

    @property
    def pids(self) -> dict[str, int]:
        """The processes that do its work, apart from ours."""
        ...

    async def run(self, asked: Sequence[Question], load: Load) -> Run:
        """Ask all questions."""
        ...


@dataclass(slots=True)
class HttpArm:
    """Asks over HTTP; connections are opened before the clock starts.

    more: header lines. status: of a good answer.
    """

    name: str
    url: str
    shape: Shape
    pids: dict[str, int] = field(default_factory=dict)
    more: str = ""
    status: int = 200

    async def run(self, asked: Sequence[Question], load: Load) -> Run:
        """Ask all questions, each connection one at a time."""
        head = post(self.url, CHAT_PATH, self.more)
        links = [_Link(self.url, head, self.status) for _ in range(min(load.concurrency, len(asked)))]
        await asyncio.gather(*(link.open() for link in links))
        try:
            return await all_at_once(asked, [link.ask for link in links], load.limit_s)
        finally:
            for link in links:
                link.close()


class _Link:
    """A connection that is opened anew after it broke, so that one failure is one lost answer."""

    def __init__(self, url: str, head: bytes, status: int) -> None:
        self._url = url
        self._head = head
        self._status = status
        self._connection: Connection | None = None

    async def open(self) -> None:
        self._connection = await Connection.open(self._url)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def ask(self, question: Question) -> Answer:
        try:
            if self._connection is None:
                await self.open()
            assert self._connection is not None
            response = await self._connection.ask(self._head, question.body)
        except OSError as error:
            self._connection = None
            return Answer(question, None, failure=str(error))
        latency_s = response.done_s - response.sent_s
        if response.status != self._status:
            return Answer(
                question, None, latency_s, failure=f"HTTP {response.status}: {response.body[:300]!r}"
            )
        return Answer(question, response.body, latency_s, first_s=response.first_s - response.sent_s)


@dataclass(slots=True)
class KafkaArm:
    """Asks by publishing; `client` is started and stopped by whoever made it."""

    name: str
    client: KafkaClient
    shape: Shape
    pids: dict[str, int] = field(default_factory=dict)

    async def run(self, asked: Sequence[Question], load: Load) -> Run:
        """Ask all questions, so many in flight at once."""
        before = self.client.repeated
        run = await all_at_once(asked, [self.client.ask] * min(load.concurrency, len(asked)), load.limit_s)
        await asyncio.sleep(_SETTLE_S)
        run.repeated = self.client.repeated - before
        return run


async def all_at_once(asked: Iterable[Question], lanes: Sequence[Ask], limit_s: float) -> Run:
    """Each lane takes the next question when it has its answer."""
    queue = iter(asked)
    answers: list[Answer] = []

    async def drive(ask: Ask) -> None:
        for question in queue:
            answers.append(await ask(question))  # noqa: PERF401  # what was answered counts, if cut short

    started_s = time.perf_counter()
    try:
        async with asyncio.timeout(limit_s), asyncio.TaskGroup() as group:
            for ask in lanes:
                group.create_task(drive(ask))
    except TimeoutError:
        pass  # what is missing is lost, and `judge` says so
    return Run(answers, time.perf_counter() - started_s)
