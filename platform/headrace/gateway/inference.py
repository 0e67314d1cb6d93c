"""The paths that run models: whole answers and streams.

Raw ASGI: they carry the load.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from starlette.types import Receive, Scope, Send

from headrace.contracts.errors import BodyTooLarge, HeadraceError, InternalError, WrongContentType
from headrace.contracts.requests import INFER, INFER_URL
from headrace.gateway.callers import Callers
from headrace.gateway.problems import refuse, respond, retry_headers
from headrace.gateway.submit import Asked, Submitter
from headrace.gateway.waiting import GONE, Answer, Waiting, WaitingStream
from headrace.telemetry.gateway import GatewayTelemetry

_log = logging.getLogger(__name__)

_BEFORE_MODEL, _BEHIND_MODEL = INFER_URL.split("{model}")
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


def is_infer(path: str) -> bool:
    """Whether a URL's path is that of tensors for some model; names may have slashes."""
    has_name = len(path) > len(_BEFORE_MODEL) + len(_BEHIND_MODEL)
    return has_name and path.startswith(_BEFORE_MODEL) and path.endswith(_BEHIND_MODEL)


class ClientGone(Exception):
    """The caller has closed the connection before its request was whole."""


class Inference:
    """One inference path, as an ASGI application."""

    def __init__(
        self, path: str, submitter: Submitter, callers: Callers, telemetry: GatewayTelemetry
    ) -> None:
        self._path = path
        self._route = INFER_URL if path == INFER else path
        self._telemetry = telemetry
        self._submitter = submitter
        self._callers = callers
        self._limit_bytes = submitter.settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = _headers(scope)
        exchange = self._telemetry.begin(headers, self._route, scope["path"])
        try:
            value = await _read_body(headers, receive, self._limit_bytes)
            caller = self._callers.identify(scope["headers"])
            asked = Asked(self._path, value, self._model(scope), caller.key, headers.get(b"accept"))
            checked = self._submitter.check(asked)
            waiting = await self._submitter.submit(checked, exchange)
        except HeadraceError as error:
            exchange.end(error.kind.http_status, error.code)
            await refuse(send, error)
        except ClientGone:
            exchange.end(GONE.http_status)
        except Exception as error:  # noqa: BLE001  # the edge: whatever it is, the caller hears of it in our shape
            _log.exception("a fault of ours on %s", self._path)
            exchange.end(500, type(error).__name__)
            await refuse(send, InternalError("The gateway failed on this request; nothing was queued"))
        else:
            waiting.gone = partial(_disconnected, receive)
            try:
                await self._answer(waiting, send)
            finally:
                self._submitter.release(checked, waiting)
                done = waiting.future.done() and not waiting.future.cancelled()
                exchange.end(waiting.future.result().http_status if done else GONE.http_status)

    def _model(self, scope: Scope) -> str | None:
        """The model's name in the URL, where it is in there."""
        return scope["path"][len(_BEFORE_MODEL) : -len(_BEHIND_MODEL)] if self._path == INFER else None

    async def _answer(self, waiting: Waiting, send: Send) -> None:
        try:
            if isinstance(waiting, WaitingStream):
                await _stream(waiting, send)
            else:
                answer = await waiting.future
                if answer is not GONE:
                    await _respond(send, answer, waiting.key)
        except Exception:  # noqa: BLE001  # uvicorn's own answer would make clients send it again
            _log.exception("a fault of ours on request %s", waiting.request_id)
            error = InternalError("The gateway failed on the answer")
            await _respond(send, Answer(error.kind.http_status, error.body()), waiting.key)


async def _stream(waiting: WaitingStream, send: Send) -> None:
    sse = EventStream(send, waiting.key)
    while (chunks := await waiting.next()) is not None:
        await (sse.data(chunks) if chunks else sse.comment())
    answer = waiting.future.result()
    if answer is not GONE:
        await sse.end(answer)


class EventStream:
    """Server-sent events in OpenAI's form.

    The status goes out with the first event, so that whatever fails before it has a status of its own;
    what fails after it is an error frame. A stream ends with `[DONE]` or with an error frame.
    """

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self._started = False

    async def data(self, values: Sequence[bytes]) -> None:
        """Send events, those that have piled up in one piece."""
        await self._part(b"data: " + b"\n\ndata: ".join(values) + b"\n\n")

    async def comment(self) -> None:
        """Send a sign of life, which clients ignore."""
        await self._part(_KEEP_ALIVE)

    async def end(self, answer: Answer) -> None:
        """Send how it ended."""
        if not answer.is_error:
            await self._part(_DONE, more=False)
        elif self._started:
            await self._part(b"data: " + answer.value + b"\n\n", more=False)
        else:
            await _respond(self._send, answer, self._request_id)

    async def _part(self, body: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            headers = [*_STREAM_HEADERS, (b"x-request-id", self._request_id)]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


async def _respond(send: Send, answer: Answer, request_id: bytes) -> None:
    headers = retry_headers(answer.http_status, queued=answer.queued)
    kind = b"content-type", answer.content_type
    await respond(send, answer.http_status, answer.value, request_id, headers, kind)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    return dict(scope["headers"])


async def _read_body(headers: Mapping[bytes, bytes], receive: Receive, limit_bytes: int) -> bytes:
    _require_json(headers)
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    parts: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size_bytes += len(part)
        if size_bytes > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over {limit_bytes} bytes, the most that this gateway takes")


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type")
    if kind != b"application/json" and (kind is None or _essence(kind) != b"application/json"):
        given = "none" if kind is None else f"'{kind.decode(errors='replace')[:100]}'"
        raise WrongContentType(f"The content type must be application/json; it is {given}")
    coding = headers.get(b"content-encoding", b"identity")
    if coding.lower() != b"identity":
        raise WrongContentType("The body must be sent as it is, without a content-encoding")


def _essence(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()
