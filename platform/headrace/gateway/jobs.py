"""`/v1/jobs`: requests whose answers are kept."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from headrace.contracts import jobs as contract
from headrace.contracts.errors import HeadraceError, InvalidRequest, JobRunning
from headrace.contracts.headers import JSON
from headrace.contracts.jobs import Shown
from headrace.contracts.states import FINAL, State
from headrace.core.jobs import Job, Page
from headrace.core.replay import Kind, Piece, Position
from headrace.gateway.book import Book
from headrace.gateway.callers import Caller, Callers
from headrace.gateway.following import Following
from headrace.gateway.pages import asked as wanted
from headrace.gateway.pages import listing
from headrace.gateway.problems import new_request_id, retry_headers
from headrace.gateway.submit import Submitter

_CANCEL_S: Final = 3.0
_LOOK_S: Final = 0.1
_AGAIN: Final = {"retry-after": "2"}
_SIGN_OF_LIFE_S: Final = 15.0


class Lists(Protocol):
    """Jobs in pages; see `store.jobs.Jobs`."""

    async def page(self, tenant: str, page: Page) -> list[Job]:
        """Jobs of the tenant; one more than `limit`, if there is more."""
        ...


@dataclass(frozen=True, slots=True)
class JobParts:
    """What these paths work with."""

    callers: Callers
    book: Book
    lists: Callable[[], Lists]
    following: Following
    submitter: Submitter


def routes(parts: JobParts) -> list[Route]:
    """The routes."""
    jobs = _Jobs(parts)
    one = f"{contract.URL}/{{id}}"
    return [
        Route(contract.URL, jobs.page, methods=["GET"]),
        Route(one, jobs.one, methods=["GET"]),
        Route(one, jobs.delete, methods=["DELETE"]),
        Route(f"{one}/result", jobs.result, methods=["GET"]),
        Route(f"{one}/cancel", jobs.cancel, methods=["POST"]),
        Route(f"{one}/events", jobs.events, methods=["GET"]),
    ]


def answer(shown: Shown, status: int = 200) -> Response:
    """A job as a response."""
    headers = {"x-request-id": shown.id} | ({} if shown.state in FINAL else _AGAIN)
    body = orjson.dumps(contract.document(shown))
    return Response(body, status, headers, media_type="application/json")


def _json(document: dict[str, Any], request_id: str) -> Response:
    headers = {"x-request-id": request_id}
    return Response(orjson.dumps(document), 200, headers, media_type="application/json")


def _states(names: Iterable[str]) -> frozenset[State]:
    try:
        return frozenset(State(name) for name in names)
    except ValueError:
        raise InvalidRequest(f"'status' must be one of {', '.join(State)}", param="status") from None


def _piece(piece: Piece, shown: Shown) -> bytes:
    if piece.kind is Kind.END:
        return _event(shown.state.value, orjson.dumps(contract.document(shown)), piece.position)
    if piece.kind is Kind.RESET:
        return _event("reset", b"{}")
    return _event("chunk", piece.value, piece.position)


def _event(name: str, data: bytes, position: Position | None = None) -> bytes:
    place = "" if position is None else f"id: {position}\n"
    return f"{place}event: {name}\ndata: ".encode() + data + b"\n\n"


class _Jobs:
    def __init__(self, parts: JobParts) -> None:
        self._parts = parts

    async def page(self, request: Request) -> Response:
        caller, query = self._parts.callers.of(request), request.query_params
        after, limit, ascending = wanted(request)
        states = _states(query.getlist("status"))
        asked = Page(limit, after, not ascending, states, query.get("model"))
        found = await self._parts.lists().page(caller.tenant, asked)
        shown = [contract.document(await self._parts.book.shown(job, whole=False)) for job in found]
        return _json(listing(shown, asked.limit), new_request_id())

    async def one(self, request: Request) -> Response:
        return answer(await self._parts.book.shown(await self._job(request)))

    async def result(self, request: Request) -> Response:
        book = self._parts.book
        job = await self._job(request)
        found = await book.result(job) if job.state in FINAL else None
        if found is None:
            return answer(await book.shown(job), 202)
        headers = {
            name.decode(): value.decode() for name, value in retry_headers(found.http_status, queued=True)
        }
        headers |= {"x-request-id": job.id, "content-type": found.content_type}
        return Response(await book.body(found), found.http_status, headers)

    async def cancel(self, request: Request) -> Response:
        """Ask for it, and wait a moment for the answer to have come."""
        caller, parts = self._parts.callers.of(request), self._parts
        job = await parts.book.job(caller, request.path_params["id"])
        if job.state not in FINAL:
            await parts.submitter.ask_to_cancel(job.id, "its owner asked for it")
            until_s = time.monotonic() + _CANCEL_S
            while job.state not in FINAL and time.monotonic() < until_s:
                await asyncio.sleep(_LOOK_S)
                job = await parts.book.job(caller, job.id)
        return answer(await parts.book.shown(job))

    async def delete(self, request: Request) -> Response:
        job = await self._job(request)
        if job.state not in FINAL:
            how = contract.urls(job.id)["cancel"]
            raise JobRunning(f"Job '{job.id}' is {job.state}: cancel it first, by POST {how}")
        await self._parts.book.forget(job)
        return _json({"id": job.id, "object": contract.OBJECT, "deleted": True}, job.id)

    async def events(self, request: Request) -> Response:
        job = await self._job(request)
        last = Position.parse(request.headers.get("last-event-id", ""))
        headers = {"x-request-id": job.id, "cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(self._told(request, job, last), 200, headers, "text/event-stream")

    async def _told(self, request: Request, job: Job, last: Position | None) -> AsyncIterator[bytes]:
        parts = self._parts
        caller = parts.callers.of(request)
        shown = await parts.book.shown(job)
        yield _event("status", orjson.dumps(contract.document(shown._replace(body=None))))
        said_s = time.monotonic()
        try:
            async for news in parts.following.news(caller, job, last):
                if isinstance(news, Piece):
                    if news.kind is Kind.END:
                        shown = await self._ended(caller, shown, news)
                    yield _piece(news, shown)
                elif news is not None:
                    shown = news
                    yield _event("status", orjson.dumps(contract.document(news)))
                elif time.monotonic() - said_s > _SIGN_OF_LIFE_S:
                    yield b": keep-alive\n\n"
                else:
                    continue
                said_s = time.monotonic()
        except HeadraceError as error:
            # The head is out, so that no status can tell it: the job was removed, or Kafka or SQL is away.
            yield _event("error", error.body())

    async def _ended(self, caller: Caller, shown: Shown, end: Piece) -> Shown:
        """The job after its end, which SQL may hear of a moment later."""
        job = await self._parts.book.job(caller, shown.id)
        if job.state in FINAL or end.state is None:
            return await self._parts.book.shown(job)
        now_s = time.time()
        return shown._replace(
            state=end.state, body=end.value, content_type=JSON.decode(), queue=None, finished_at_s=now_s
        )

    async def _job(self, request: Request) -> Job:
        return await self._parts.book.job(self._parts.callers.of(request), request.path_params["id"])
