"""`/v1/chat/completions` and `/v1/completions`: whole answers and streams.

Raw ASGI: these two paths carry the load.
"""

import asyncio
import logging
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from headrace.contracts.errors import BodyTooLarge, HeadraceError, InternalError, WrongContentType
from headrace.gateway.problems import new_request_id, respond, respond_error, retry_headers
from headrace.gateway.replies import Answer, Waiting, WaitingStream
from headrace.gateway.submit import Submitter
from headrace.settings import GatewaySettings

_log = logging.getLogger(__name__)

# Whoever leaves within this time saves nothing worth a watcher for every request.
_WATCH_AFTER_S: Final = 0.05
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_DONE: Final = b"data: [DONE]\n\n"


class ClientGone(Exception):
    """The caller has closed the connection before its request was whole."""


class Inference:
    """One inference path, as an ASGI application."""

    def __init__(self, path: str, submitter: Submitter, settings: GatewaySettings) -> None:
        self._path = path
        self._submitter = submitter
        self._settings = settings
        self._loop = asyncio.get_running_loop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            _require_json(scope)
            value = await _read_body(scope, receive, self._settings.max_body_bytes)
            checked = self._submitter.check(self._path, value)
            waiting = await self._submitter.submit(checked)
        except HeadraceError as error:
            await respond_error(send, error, new_request_id(), queued=False)
            return
        except ClientGone:
            return
        except Exception:  # noqa: BLE001  # the edge: whatever it is, the caller hears of it in our shape
            _log.exception("a fault of ours on %s", self._path)
            await respond_error(send, InternalError("The gateway failed"), new_request_id(), queued=False)
            return
        try:
            if isinstance(waiting, WaitingStream):
                await self._stream(waiting, receive, send)
            else:
                await self._whole(waiting, receive, send)
        finally:
            self._submitter.replies.remove(waiting)

    async def _whole(self, waiting: Waiting, receive: Receive, send: Send) -> None:
        watch = _Watch(self._loop, receive, self._submitter, waiting)
        try:
            answer = await waiting.future
        except asyncio.CancelledError:
            if not watch.gone:
                raise  # this gateway is being stopped hard
            return
        except HeadraceError as error:
            # The future fails when Kafka did not confirm the record, or when the deadline passed.
            queued = error.code not in ("unavailable", "body_too_large")
            await respond_error(send, error, waiting.request_id, queued=queued)
            return
        finally:
            watch.stop()
        await _respond_answer(send, answer, waiting.request_id)

    async def _stream(self, waiting: WaitingStream, receive: Receive, send: Send) -> None:
        watch = _Watch(self._loop, receive, self._submitter, waiting)
        sse = EventStream(send, waiting.request_id)
        try:
            while (chunk := await self._next(waiting, sse)) is not None:
                await sse.data(chunk)
            if not waiting.future.cancelled():
                await sse.end(waiting.future)
        finally:
            watch.stop()

    async def _next(self, waiting: WaitingStream, sse: "EventStream") -> bytes | None:
        """The next chunk, None at the end; comments go out while nothing comes."""
        queue = waiting.queue
        while True:
            if not queue.empty():
                return queue.get_nowait()
            try:
                async with asyncio.timeout(self._settings.keepalive_s):
                    return await queue.get()
            except TimeoutError:
                await sse.comment()


class EventStream:
    """Server-sent events in OpenAI's form.

    The status goes out with the first event, so that whatever fails before it has a status of its own;
    what fails after it is an error frame. A stream ends with `[DONE]` or with an error frame.
    """

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self._started = False

    async def data(self, value: bytes) -> None:
        """Send one event."""
        await self._part(b"data: " + value + b"\n\n")

    async def comment(self) -> None:
        """Send a sign of life, which clients ignore."""
        await self._part(_KEEP_ALIVE)

    async def end(self, outcome: "asyncio.Future[Answer]") -> None:
        """Send how it ended."""
        error = outcome.exception()
        if isinstance(error, HeadraceError):
            if self._started:
                await self._part(b"data: " + error.body() + b"\n\n", more=False)
            else:
                await respond_error(self._send, error, self._request_id, queued=error.code != "unavailable")
            return
        answer = outcome.result()
        if answer.http_status < 400:
            await self._part(_DONE, more=False)
        elif self._started:
            await self._part(b"data: " + answer.value + b"\n\n", more=False)
        else:
            await _respond_answer(self._send, answer, self._request_id)

    async def _part(self, body: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", b"text/event-stream"),
                        (b"cache-control", b"no-cache"),
                        (b"x-accel-buffering", b"no"),
                        (b"x-request-id", self._request_id.encode()),
                    ],
                }
            )
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class _Watch:
    """Notices that the caller has left, and cancels the request."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, receive: Receive, submitter: Submitter, waiting: Waiting
    ) -> None:
        self._receive = receive
        self._submitter = submitter
        self._waiting = waiting
        self._task: asyncio.Task[None] | None = None
        self.gone = False
        self._timer = loop.call_later(_WATCH_AFTER_S, self._start)

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                break
        self.gone = True
        self._submitter.cancel(self._waiting.request_id)
        self._waiting.leave()


async def _respond_answer(send: Send, answer: Answer, request_id: str) -> None:
    headers = retry_headers(answer.http_status, queued=True)
    await respond(send, answer.http_status, answer.value, request_id, headers)


async def _read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    declared = _header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
    if message["type"] == "http.disconnect":
        raise ClientGone
    return body


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over {limit_bytes} bytes, the most that this gateway takes")


def _require_json(scope: Scope) -> None:
    kind = _header(scope, b"content-type")
    if kind is None or not kind.lower().startswith(b"application/json"):
        given = "none" if kind is None else f"'{kind.decode(errors='replace')}'"
        raise WrongContentType(f"The content type must be application/json; it is {given}")


def _header(scope: Scope, name: bytes) -> bytes | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for key, value in headers:
        if key == name:
            return value
    return None
