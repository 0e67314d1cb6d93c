"""Answers on their way to the caller: whole ones, and server-sent events in OpenAI's form."""

from collections.abc import Sequence
from typing import Final

import orjson
from starlette.types import Send

from headrace.gateway.problems import Header, respond, retry_headers
from headrace.gateway.waiting import Answer

_KEEP_ALIVE: Final = b": keep-alive\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


async def send_answer(send: Send, answer: Answer, request_id: bytes, more: Sequence[Header] = ()) -> None:
    """Send a whole answer; `more` headers beside our own."""
    headers = [*retry_headers(answer.http_status, queued=answer.queued), *more]
    kind = b"content-type", answer.content_type
    await respond(send, answer.http_status, answer.value, request_id, headers, kind)


class EventStream:
    """Server-sent events in the form of OpenAI's chats.

    The status goes out with the first event, so that whatever fails before it has a status of its own;
    what fails after it is an error frame. A stream ends with `[DONE]` or with an error frame.
    """

    def __init__(self, send: Send, request_id: bytes, more: Sequence[Header] = ()) -> None:
        self._send = send
        self._request_id = request_id
        self._more = more
        self._started = False

    async def data(self, values: Sequence[bytes]) -> None:
        """Send events, those that have piled up in one piece."""
        await self._part(self._framed(values))

    async def comment(self) -> None:
        """Send a sign of life, which clients ignore."""
        await self._part(_KEEP_ALIVE)

    async def end(self, answer: Answer) -> None:
        """Send how it ended."""
        if not answer.is_error:
            await self._part(self._done, more=False)
        elif self._started:
            await self._part(self._failed(answer.value), more=False)
        else:
            await send_answer(self._send, answer, self._request_id, self._more)

    _done = _DONE

    def _framed(self, values: Sequence[bytes]) -> bytes:
        return b"data: " + b"\n\ndata: ".join(values) + b"\n\n"

    def _failed(self, error: bytes) -> bytes:
        return b"data: " + error + b"\n\n"

    async def _part(self, body: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            headers = [*_STREAM_HEADERS, (b"x-request-id", self._request_id), *self._more]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class NamedEvents(EventStream):
    """Server-sent events in the form of OpenAI's Responses: each says its type, the last one is the end."""

    _done = b""

    def __init__(self, send: Send, request_id: bytes, more: Sequence[Header] = ()) -> None:
        super().__init__(send, request_id, more)
        self._sent = 0

    def _framed(self, values: Sequence[bytes]) -> bytes:
        self._sent += len(values)
        return b"".join(named_event(value) for value in values)

    def _failed(self, error: bytes) -> bytes:
        told = orjson.loads(error)["error"]
        event = {
            "type": "error",
            "sequence_number": self._sent,
            **{n: told[n] for n in ("code", "message", "param")},
        }
        return named_event(orjson.dumps(event))


def named_event(value: bytes) -> bytes:
    """An event of a Response; `value` begins with its type, as `core.responses` writes it."""
    kind = value.split(b'"', 4)[3]
    return b"event: %b\ndata: %b\n\n" % (kind, value)
