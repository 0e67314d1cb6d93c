"""`/v1/responses/{id}`: Responses that were made before, in the background or not."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from headrace.contracts import bodies
from headrace.contracts.errors import HeadraceError, InvalidRequest, UnknownJob, UnknownResponse
from headrace.contracts.requests import RESPONSES
from headrace.contracts.responses import Item, MessageItem, ResponseBody, blank, request_id, response_id
from headrace.contracts.states import FINAL, State
from headrace.core.jobs import Job
from headrace.core.replay import Kind, Piece
from headrace.gateway.book import Book
from headrace.gateway.callers import Caller, Callers
from headrace.gateway.following import Following
from headrace.gateway.pages import asked as wanted
from headrace.gateway.pages import listing
from headrace.gateway.sending import named_event
from headrace.gateway.submit import Submitter

_CANCEL_S: Final = 5.0
_LOOK_S: Final = 0.1
_SIGN_OF_LIFE_S: Final = 15.0
_ENDS: Final = {State.EXPIRED: "failed"}
_GOOD: Final = frozenset({State.COMPLETED, State.INCOMPLETE})


@dataclass(frozen=True, slots=True)
class ResponseParts:
    """What these paths work with."""

    callers: Callers
    book: Book
    following: Following
    submitter: Submitter


def routes(parts: ResponseParts) -> list[Route]:
    """The routes; making a Response is inference."""
    here, one = _Responses(parts), f"{RESPONSES}/{{id}}"
    return [
        Route(one, here.one, methods=["GET"]),
        Route(one, here.delete, methods=["DELETE"]),
        Route(f"{one}/cancel", here.cancel, methods=["POST"]),
        Route(f"{one}/input_items", here.items, methods=["GET"]),
    ]


class Conversations:
    """What was said before a Response that names another one."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def told(self, caller: Caller, body: bytes) -> bytes:
        """The same body, with the items of the Response that it follows before its own.

        Raises:
            InvalidRequest: the body is wrong.
            UnknownResponse: there is no such Response, or it has no answer.
        """
        asked = bodies.parse(RESPONSES, body)
        assert isinstance(asked, ResponseBody)
        if asked.previous_response_id is None:
            return body
        job = await _find(self._book, caller, asked.previous_response_id, "previous_response_id")
        result = await self._book.result(job)
        if job.request is None or result is None or job.state not in _GOOD:
            raise UnknownResponse(
                f"Response '{asked.previous_response_id}' has no answer to go on from: it is {job.state}",
                param="previous_response_id",
            )
        before = orjson.loads(job.request)["input"]
        answer = orjson.loads(await self._book.body(result))
        document = orjson.loads(body)
        said = [*_as_items(before), *answer["output"], *_as_items(document["input"])]
        return orjson.dumps(document | {"input": said})


class _Responses:
    def __init__(self, parts: ResponseParts) -> None:
        self._parts = parts

    async def one(self, request: Request) -> Response:
        caller, job = await self._asked(request)
        if request.query_params.get("stream") != "true":
            return _json(await self._document(job), job.id)
        after = request.query_params.get("starting_after", "-1")
        if not after.removeprefix("-").isdecimal():
            raise InvalidRequest("'starting_after' must be a number", param="starting_after")
        if not job.stream and job.path:
            raise InvalidRequest("It was not asked for as a stream: leave 'stream' out", param="stream")
        headers = {"x-request-id": job.id, "cache-control": "no-cache", "x-accel-buffering": "no"}
        told = self._events(caller, job, int(after[:12]))
        return StreamingResponse(told, 200, headers, "text/event-stream")

    async def cancel(self, request: Request) -> Response:
        caller, job = await self._asked(request)
        return _json(await self._document(await self._cancelled(caller, job)), job.id)

    async def delete(self, request: Request) -> Response:
        """One that runs is cancelled first."""
        caller, job = await self._asked(request)
        job = await self._cancelled(caller, job)
        await self._parts.book.forget(job)
        return _json({"id": response_id(job.id), "object": "response.deleted", "deleted": True}, job.id)

    async def items(self, request: Request) -> Response:
        _, job = await self._asked(request)
        asked = wanted(request)
        found: list[dict[str, Any]] = []
        if job.request is not None:
            body = bodies.parse(RESPONSES, job.request)
            assert isinstance(body, ResponseBody)
            found = [_shown(item, job.id, number) for number, item in enumerate(body.items)]
        if not asked.ascending:
            found.reverse()
        names = [item["id"] for item in found]
        start = names.index(asked.after) + 1 if asked.after in names else 0
        return _json(listing(found[start : start + asked.limit + 1], asked.limit), job.id)

    async def _asked(self, request: Request) -> tuple[Caller, Job]:
        caller = self._parts.callers.of(request)
        return caller, await _find(self._parts.book, caller, request.path_params["id"], "id")

    async def _document(self, job: Job) -> dict[str, Any]:
        book = self._parts.book
        shown = await book.shown(job, whole=False)
        made = blank(job.id, job.request, job.model, int(job.created_at_s))
        if shown.state not in FINAL:
            return made | {"status": shown.state.value}
        result = await book.result(job)
        value = {} if result is None else orjson.loads(await book.body(result))
        if shown.state in _GOOD and value:
            return dict(value)
        return made | {
            "status": _ENDS.get(shown.state, shown.state.value),
            "error": _error(shown.state, value),
        }

    async def _cancelled(self, caller: Caller, job: Job) -> Job:
        parts = self._parts
        if job.state in FINAL:
            return job
        await parts.submitter.ask_to_cancel(job.id, "its owner asked for it")
        until_s = time.monotonic() + _CANCEL_S
        while job.state not in FINAL and time.monotonic() < until_s:
            await asyncio.sleep(_LOOK_S)
            job = await parts.book.job(caller, job.id)
        return job

    async def _events(self, caller: Caller, job: Job, after: int) -> AsyncIterator[bytes]:
        """The events behind one; their numbers are the chunks' own."""
        told, said_s = -1, time.monotonic()
        try:
            async for news in self._parts.following.news(caller, job):
                if isinstance(news, Piece) and news.kind is Kind.CHUNK:
                    told = orjson.loads(news.value)["sequence_number"]
                    if told > after:
                        yield named_event(news.value)
                        said_s = time.monotonic()
                elif isinstance(news, Piece):
                    if news.kind is Kind.RESET or news.state not in _GOOD:
                        yield self._broken(job, news, told + 1)
                    return
                elif time.monotonic() - said_s > _SIGN_OF_LIFE_S:
                    said_s = time.monotonic()
                    yield b": keep-alive\n\n"
        except HeadraceError as error:
            yield _failed(error.code, error.message, told + 1)

    def _broken(self, job: Job, piece: Piece, number: int) -> bytes:
        """How it ended without an answer."""
        if piece.kind is Kind.RESET or piece.state is None:
            return _failed(
                "internal_error", "The request runs anew: read its stream from the beginning", number
            )
        made = blank(job.id, job.request, job.model, int(job.created_at_s))
        status = _ENDS.get(piece.state, piece.state.value)
        made |= {"status": status, "error": _error(piece.state, orjson.loads(piece.value))}
        # OpenAI has no event for a cancelled one.
        kind = "response.failed"
        return named_event(orjson.dumps({"type": kind, "sequence_number": number, "response": made}))


async def _find(book: Book, caller: Caller, name: str, param: str) -> Job:
    try:
        job = await book.job(caller, request_id(name))
    except UnknownJob:
        job = None
    if job is None or job.path not in ("", RESPONSES):
        raise UnknownResponse(f"There is no response '{name[:100]}'; they are kept for a while", param=param)
    return job


def _error(state: State, value: dict[str, Any]) -> dict[str, Any] | None:
    if state is State.CANCELLED:
        return None
    told = value.get("error") or {"code": "internal_error", "message": "The answer was removed"}
    return {"code": told["code"], "message": told["message"]}


def _failed(code: str, message: str, number: int) -> bytes:
    event = {"type": "error", "sequence_number": number, "code": code, "message": message, "param": None}
    return named_event(orjson.dumps(event))


def _as_items(given: Any) -> list[Any]:
    return [{"role": "user", "content": given}] if isinstance(given, str) else list(given)


def _shown(item: Item, job_id: str, number: int) -> dict[str, Any]:
    """An input item, with the id that it has in the list."""
    name = f"{job_id.removeprefix('req_')}_{number}"
    if isinstance(item, MessageItem):
        kind = "output_text" if item.role == "assistant" else "input_text"
        part: dict[str, Any] = {"type": kind, "text": item.text}
        part |= {"annotations": []} if kind == "output_text" else {}
        return {
            "id": f"msg_{name}",
            "type": "message",
            "role": item.role,
            "status": "completed",
            "content": [part],
        }
    return {"id": f"item_{name}", "status": "completed", **item.model_dump()}


def _json(document: dict[str, Any], name: str) -> Response:
    return Response(orjson.dumps(document), 200, {"x-request-id": name}, media_type="application/json")
