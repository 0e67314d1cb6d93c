"""Answers on the wire: JSON with a request id, and errors in the merged shape."""

import uuid
from collections.abc import Sequence
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from headrace.contracts.errors import HeadraceError, InternalError, MethodNotAllowed, UnknownPath

Header = tuple[bytes, bytes]

JSON: Final[Header] = (b"content-type", b"application/json")
_RETRY_AFTER: Final[Sequence[Header]] = ((b"retry-after", b"1"),)
_NO_RETRY: Final[Sequence[Header]] = ((b"x-should-retry", b"false"),)
_SDK_RETRIES: Final = frozenset({408, 409, 429})


async def respond(
    send: Send, status: int, body: bytes, request_id: str, headers: Sequence[Header] = ()
) -> None:
    """Send a whole JSON response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                JSON,
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id.encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: HeadraceError, request_id: str, *, queued: bool) -> None:
    """Send an error. `queued`: the request is in Kafka, so that sending it again would run it twice."""
    headers = retry_headers(error.kind.http_status, queued=queued)
    await respond(send, error.kind.http_status, error.body(), request_id, headers)


def retry_headers(status: int, *, queued: bool) -> Sequence[Header]:
    """What a client should know about sending the request again.

    OpenAI's clients resend on 408, 409, 429 and 5xx; `x-should-retry` overrules that.
    """
    if status < 500 and status not in _SDK_RETRIES:
        return ()
    return _NO_RETRY if queued else _RETRY_AFTER


def new_request_id() -> str:
    """An id for a request that never becomes a record."""
    return f"http_{uuid.uuid4().hex}"


def problem(error: HeadraceError) -> Response:
    """An error as a Starlette response."""
    response = Response(error.body(), error.kind.http_status, media_type="application/json")
    response.headers["x-request-id"] = new_request_id()
    return response


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals, in our shape."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path
    if status == 405:
        allowed = getattr(error, "headers", None) or {}
        response = problem(
            MethodNotAllowed(f"{request.method} is not allowed on {path}; use {allowed.get('Allow', 'POST')}")
        )
        response.headers.update(allowed)
        return response
    if status == 404:
        return problem(UnknownPath(f"There is nothing at {path}; see /v1/models, /v1/chat/completions"))
    return problem(InternalError(str(error)))


async def on_error(request: Request, error: Exception) -> Response:
    """A fault of ours; Starlette logs it with its trace."""
    del request, error
    return problem(InternalError("The gateway failed on this request; nothing was queued"))
