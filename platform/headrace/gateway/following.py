"""A job as it goes on: where it stands, the chunks of its stream, how it ended."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from headrace.contracts import replies
from headrace.contracts.jobs import Shown
from headrace.contracts.replies import ReplyHead
from headrace.contracts.states import FINAL, State
from headrace.core.archive import FinalResult
from headrace.core.jobs import Job
from headrace.core.ports import Record
from headrace.core.replay import Kind, Piece, Position, Replay
from headrace.gateway.book import Book
from headrace.gateway.callers import Caller
from headrace.gateway.streams import Streams, Viewer

_FIRST_LOOK_S: Final = 0.1
_LOOK_S: Final = 1.0
"""Between two looks at SQL while nothing comes from the stream: the first comes sooner."""

News: TypeAlias = Shown | Piece | None
"""Where it stands now, a piece of its stream, or nothing for a while. The last one is an END."""


@dataclass(frozen=True, slots=True)
class Following:
    """Follows jobs for whoever looks at this gateway."""

    book: Book
    streams: Streams

    async def news(self, caller: Caller, job: Job, last: Position | None = None) -> AsyncIterator[News]:
        """What happens to the job until it has ended; of its stream what comes behind `last`.

        Raises:
            UnknownJob: it was removed meanwhile.
            Unavailable: the database or Kafka does not serve.
        """
        replay, told, look_s, is_whole = Replay(last), State.QUEUED, _FIRST_LOOK_S, False
        async with self._viewer(job) as viewer:
            while True:
                if job.state in FINAL:
                    if viewer is not None and not is_whole:
                        # The archive may be faster than our reader; all chunks were written before it knew.
                        await self.streams.extend(viewer)
                        is_whole = True
                    if viewer is None or viewer.has_caught_up:
                        for piece in replay.end(*_end(job, await self.book.result(job))):
                            yield piece
                        return
                for record in await _records(viewer, look_s):
                    for piece in replay.take(replies.read(record.headers), record.value or b""):
                        yield piece
                        if piece.kind is Kind.END:
                            return
                    told = State.IN_PROGRESS
                look_s = min(2 * look_s, _LOOK_S)
                job = await self.book.job(caller, job.id)
                shown = await self.book.shown(job, whole=job.state not in FINAL)
                yield None if shown.state is told or shown.state in FINAL else shown
                told = shown.state

    @asynccontextmanager
    async def _viewer(self, job: Job) -> AsyncIterator[Viewer | None]:
        """A look at the job's stream, if it has one.

        One whose request is not listed yet may have: its result may be known before.
        """
        if not job.stream and job.topic is not None:
            yield None
            return
        async with self.streams.watch(job.id, job.created_at_s) as viewer:
            yield viewer


async def _records(viewer: Viewer | None, timeout_s: float) -> Sequence[Record]:
    if viewer is not None:
        return await viewer.next(timeout_s)
    await asyncio.sleep(timeout_s)
    return ()


def _end(job: Job, result: FinalResult | None) -> tuple[ReplyHead, bytes]:
    """The final record that the archive stands for."""
    head = ReplyHead(job.id, job.state, "", job.http_status or 200, attempt=job.attempt)
    return head, b"" if result is None or result.claim_json is not None else result.body
