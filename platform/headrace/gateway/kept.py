"""Inference requests whose answers are kept: `Prefer: respond-async`, `wait=n`, `Idempotency-Key`.

Their callers may leave: the request goes on, and its answer can be fetched.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from starlette.types import Send

from headrace.contracts import jobs, responses
from headrace.contracts.errors import HeadraceError, InternalError, KeyReused, RequestExpired
from headrace.contracts.jobs import Shown
from headrace.contracts.requests import RESPONSES
from headrace.contracts.responses import ResponseBody
from headrace.contracts.states import FINAL, State
from headrace.core.idempotency import Claim, Claims, fingerprint
from headrace.core.jobs import Job
from headrace.core.replay import Kind, Piece
from headrace.gateway.book import Book
from headrace.gateway.callers import Caller
from headrace.gateway.channel import BOTH, JOB
from headrace.gateway.following import Following
from headrace.gateway.problems import Header, limit_headers, respond
from headrace.gateway.sending import EventStream, NamedEvents, send_answer
from headrace.gateway.submit import Checked, Minted, Submitter
from headrace.gateway.waiting import Answer
from headrace.telemetry.gateway import Exchange

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.25
_ORPHANED_S: Final = 10.0
"""A key whose request is in no index by then: its gateway died between taking the key and publishing."""
_REPLAYED: Final[Sequence[Header]] = ((b"idempotent-replayed", b"true"),)


@dataclass(frozen=True, slots=True)
class KeptParts:
    """What these requests need. keys_kept_s: how long a key stands for its request."""

    submitter: Submitter
    book: Book
    following: Following
    keys: Callable[[], Claims]
    keys_kept_s: float


class KeptRequests:
    """Serves them."""

    def __init__(self, parts: KeptParts) -> None:
        self._parts = parts

    async def serve(self, checked: Checked, exchange: Exchange, send: Send) -> int:
        """Queue it, or find the one that its key stands for, and answer; returns the HTTP status.

        Raises:
            HeadraceError: nothing was queued.
        """
        is_background = isinstance(checked.body, ResponseBody) and bool(checked.body.background)
        is_job = is_background or (checked.terms.is_job and not checked.terms.wait_s)
        waits = not checked.body.stream and not is_job
        minted = self._parts.submitter.mint(checked, BOTH if waits else JOB, exchange)
        claim = self._claim(checked, minted)
        earlier = None if claim is None else await self._parts.keys().claim(claim)
        if earlier is not None:
            return await self._again(checked, earlier, exchange, send)
        try:
            if waits:
                return await self._wait(checked, minted, exchange, send)
            await self._parts.submitter.enqueue(checked, minted, exchange)
        except HeadraceError:
            if claim is not None:
                await self._parts.keys().release(claim)
            raise
        job = _job(checked, minted)
        if checked.terms.is_job:
            return await self._accept(job, send)
        return await (self._stream(job, send, ()) if checked.body.stream else self._begun(job, checked, send))

    def _claim(self, checked: Checked, minted: Minted) -> Claim | None:
        key = checked.terms.key
        if key is None:
            return None
        told = fingerprint(checked.path, checked.value, checked.model.name)
        now_s = time.time()
        tenant = (checked.tenant or b"").decode()
        return Claim(tenant, key, minted.request_id, told, now_s, now_s + self._parts.keys_kept_s)

    async def _wait(self, checked: Checked, minted: Minted, exchange: Exchange, send: Send) -> int:
        """Hold the caller; a job's for as long as it asked for."""
        waiting = await self._parts.submitter.submit_kept(checked, minted, exchange)
        try:
            async with asyncio.timeout(checked.terms.wait_s):
                answer = await waiting.future
        except TimeoutError:
            return await self._accept(_job(checked, minted), send)
        finally:
            self._parts.submitter.release(checked, waiting)
        told = () if waiting.standing is None else limit_headers(waiting.standing)
        await send_answer(send, answer, waiting.key, told)
        return answer.http_status

    async def _again(self, checked: Checked, earlier: Claim, exchange: Exchange, send: Send) -> int:
        """The key has come before: its request's answer, once it has one."""
        if earlier.fingerprint != fingerprint(checked.path, checked.value, checked.model.name):
            raise KeyReused(
                "This Idempotency-Key came before with another request: use a new one",
                param="Idempotency-Key",
            )
        caller = Caller(earlier.tenant)
        job = await self._parts.book.job(caller, earlier.request_id)
        if not job.path and time.time() - earlier.created_at_s > _ORPHANED_S:
            # If it is in Kafka after all, the first of the two answers counts.
            minted = self._parts.submitter.mint(checked, JOB, exchange, earlier.request_id)
            await self._parts.submitter.enqueue(checked, minted, exchange)
        if checked.body.stream and not checked.terms.is_job:
            return await self._stream(job, send, _REPLAYED)
        limit_s = self._parts.submitter.settings.reply_timeout_s
        until_s = time.monotonic() + (checked.terms.wait_s or 0.0 if checked.terms.is_job else limit_s)
        while job.state not in FINAL and time.monotonic() < until_s:
            await asyncio.sleep(_LOOK_S)
            job = await self._parts.book.job(caller, job.id)
        if checked.terms.is_job and (job.state not in FINAL or not checked.terms.wait_s):
            return await self._accept(job, send, _REPLAYED)
        if job.state in FINAL:
            return await self._stored(job, send)
        late = RequestExpired("No answer came in time; it is kept, and sending the same key again finds it")
        await send_answer(send, Answer(late.kind.http_status, late.body()), job.id.encode(), _REPLAYED)
        return late.kind.http_status

    async def _stored(self, job: Job, send: Send) -> int:
        found = await self._parts.book.result(job)
        if found is None:
            gone = InternalError("The answer was removed; a new Idempotency-Key makes a new one")
            answer = Answer(gone.kind.http_status, gone.body())
        else:
            value = await self._parts.book.body(found)
            answer = Answer(found.http_status, value, content_type=found.content_type.encode())
        await send_answer(send, answer, job.id.encode(), _REPLAYED)
        return answer.http_status

    async def _accept(self, job: Job, send: Send, more: Sequence[Header] = ()) -> int:
        """202: it is queued, or was when the key came first."""
        shown = Shown(
            job.id, job.state, job.path, job.model, job.lane, job.attempt, job.created_at_s, job.deadline_s
        )
        headers = [
            (b"location", jobs.urls(job.id)["self"].encode()),
            (b"retry-after", b"2"),
            (b"preference-applied", b"respond-async"),
            *more,
        ]
        await respond(send, 202, orjson.dumps(jobs.document(shown)), job.id.encode(), headers)
        return 202

    async def _begun(self, job: Job, checked: Checked, send: Send) -> int:
        """A Response in the background, as OpenAI's clients know it: no 202."""
        begun = responses.blank(job.id, checked.value, checked.model.name, int(job.created_at_s))
        await respond(send, 200, orjson.dumps(begun), job.id.encode())
        return 200

    async def _stream(self, job: Job, send: Send, more: Sequence[Header]) -> int:
        """A stream from the log, for a caller who may come again for it with the same key."""
        kind = NamedEvents if job.path == RESPONSES else EventStream
        sse = kind(send, job.id.encode(), more)
        try:
            said_s = time.monotonic()
            async for news in self._parts.following.news(Caller(job.tenant), job):
                if not isinstance(news, Piece):
                    # Not at once: what fails before the first chunk has a status of its own.
                    if time.monotonic() - said_s > self._parts.submitter.settings.keepalive_s:
                        said_s = time.monotonic()
                        await sse.comment()
                    continue
                said_s = time.monotonic()
                status = await _tell(sse, news)
                if status is not None:
                    return status
            failed: HeadraceError = InternalError("The stream ended without a word")
        except HeadraceError as error:
            failed = error
        except Exception:  # noqa: BLE001  # the head may be out, so only we can tell the caller
            _log.exception("a fault of ours on request %s", job.id)
            failed = InternalError("The gateway failed on the answer")
        await sse.end(Answer(failed.kind.http_status, failed.body()))
        return failed.kind.http_status


async def _tell(sse: EventStream, piece: Piece) -> int | None:
    """Send on a piece; gives the status at the end."""
    if piece.kind is Kind.CHUNK:
        await sse.data([piece.value])
        return None
    is_good = piece.state in (State.COMPLETED, State.INCOMPLETE)
    answer = Answer(200 if is_good else _status(piece.value), piece.value)
    if piece.kind is Kind.RESET:
        broken = InternalError("The request was started anew elsewhere; ask again")
        answer = Answer(broken.kind.http_status, broken.body())
    await sse.end(answer)
    return answer.http_status


def _status(error: bytes) -> int:
    """Of an error body, which says it."""
    told = orjson.loads(error or b"{}").get("status")
    return told if isinstance(told, int) else 500


def _job(checked: Checked, minted: Minted) -> Job:
    """The job that was queued a moment ago."""
    now_s = time.time()
    return Job(
        id=minted.request_id,
        tenant=(checked.tenant or b"").decode(),
        model=checked.model.name,
        path=checked.path,
        lane=minted.channel.lane.value,
        state=State.QUEUED,
        attempt=1,
        stream=bool(checked.body.stream),
        created_at_s=now_s,
        expires_at_s=minted.expires_at_s,
        deadline_s=minted.expires_at_s,
    )
