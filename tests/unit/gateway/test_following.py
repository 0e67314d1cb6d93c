"""What is told of a job: its stream before its end, whoever is faster, and nothing late."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from tests.unit.gateway.parts import KEY, TOPICS, chunks, whole
from tests.unit.gateway.test_streams import Log

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.replies import ReplyHead
from headrace.contracts.requests import CHAT
from headrace.contracts.states import State
from headrace.contracts.topics import stream_partition
from headrace.core.archive import FinalResult
from headrace.core.jobs import Job
from headrace.core.ports import Place, Record
from headrace.core.replay import Kind, Piece
from headrace.gateway.book import Book, BookParts
from headrace.gateway.callers import Caller
from headrace.gateway.directory import Directory
from headrace.gateway.following import Following, News
from headrace.gateway.streams import Streams

ID = "req_1"
RUN = "1:w"
WORDS = ("one ", "two ", "three")


@dataclass
class Sql:
    """The index and the archive, with one job."""

    job: Job
    on_get: list[Job] = field(default_factory=list)
    looks: int = 0

    async def get(self, *_: str) -> Job:
        self.looks += 1
        if self.on_get:
            self.job = self.on_get.pop(0)
        return self.job


class Archive:
    async def get(self, request_id: str) -> FinalResult:
        return FinalResult(
            request_id=request_id,
            state=State.COMPLETED,
            http_status=200,
            model="echo",
            body=whole("".join(WORDS)),
            content_type="application/json",
            created_at_s=1.0,
            expires_at_s=2.0,
        )


class Nowhere:
    async def ahead(self, *_: object) -> None:
        return None


def job(state: State, *, stream: bool) -> Job:
    now_s = time.time()
    return Job(
        id=ID,
        tenant="",
        model="echo",
        path=CHAT,
        lane="default",
        state=state,
        attempt=1,
        stream=stream,
        created_at_s=now_s,
        expires_at_s=now_s + 60,
        deadline_s=now_s + 60,
    )


@asynccontextmanager
async def followed(sql: Sql, log: Log) -> AsyncIterator[AsyncIterator[News]]:
    async def fetch(_: dict[str, bytes]) -> bytes:
        raise AssertionError("no result is in the bucket")

    parts = BookParts(KEY, Directory(TOPICS), lambda: sql, Archive, Nowhere(), fetch)  # type: ignore[arg-type, return-value]
    streams = Streams(log)
    reading = asyncio.create_task(streams.follow())
    try:
        async with asyncio.timeout(10):
            yield Following(Book(parts), streams).news(Caller(), sql.job)
    finally:
        reading.cancel()


def say(log: Log, state: State | None, value: bytes, sequence: int) -> None:
    """A record of the stream, by its worker."""
    head = ReplyHead(ID, state, "/workers/w", run=RUN, sequence=sequence)
    partition = stream_partition(ID.encode())
    there = log.records.setdefault(partition, [])
    there.append(
        Record(Place("streams", partition, len(there)), None, value, h.as_dict(replies.write(head)), 0)
    )


class Late(Log):
    """A topic that was empty when somebody began to look; its reader has yet to come to what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()

    async def poll(self, timeout_s: float) -> list[Record]:
        await self.open.wait()
        return list(await super().poll(timeout_s))


async def test_chunks_come_before_the_end_though_the_archive_is_faster_than_the_reader() -> None:
    log, sql = Late(), Sql(job(State.QUEUED, stream=True))
    sql.on_get = [replace(sql.job, state=State.COMPLETED)]
    async with followed(sql, log) as news:
        told = asyncio.ensure_future(_pieces(news))
        await asyncio.sleep(0.05)  # it looks on by now, and the topic is empty
        for number, chunk in enumerate(chunks(WORDS)):
            say(log, None, chunk, number)
        say(log, State.COMPLETED, whole("".join(WORDS)), len(WORDS) + 1)
        await asyncio.sleep(0.3)  # SQL says that it has ended
        assert not told.done()
        log.open.set()
        pieces = await told
    assert [piece.kind for piece in pieces] == [Kind.CHUNK] * 4 + [Kind.END]
    assert {piece.position.run for piece in pieces} == {RUN}
    assert [piece.value for piece in pieces[:-1]] == chunks(WORDS)


async def test_what_has_ended_is_told_at_once() -> None:
    sql = Sql(job(State.COMPLETED, stream=False))
    async with followed(sql, Log()) as news:
        piece = (await _pieces(news))[-1]
    assert sql.looks == 0, "nothing to wait for, so nothing to look for"
    assert (piece.kind, piece.state, piece.value) == (Kind.END, State.COMPLETED, whole("".join(WORDS)))


async def test_a_stream_that_the_topic_no_longer_holds_is_told_from_the_archive() -> None:
    sql = Sql(job(State.COMPLETED, stream=True))
    async with followed(sql, Log()) as news:
        pieces = await _pieces(news)
    assert [piece.kind for piece in pieces][-1] is Kind.END
    assert len(pieces) > 1


async def _pieces(news: AsyncIterator[News]) -> list[Piece]:
    return [each async for each in news if isinstance(each, Piece)]
