"""Answers on the wire: JSON with a request id, and errors in the merged shape."""

import uuid
from collections.abc import Sequence
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from headrace.contracts.errors import (
    HeadraceError,
    InternalError,
    InvalidApiKey,
    MethodNotAllowed,
    QueueFull,
    QuotaSpent,
    UnknownPath,
)
from headrace.contracts.requests import URLS
from headrace.core.limits import Level, OverLimit, Standing
from headrace.core.quotas import heeded_retry_after_s

Header = tuple[bytes, bytes]

JSON: Final[Header] = (b"content-type", b"application/json")
_RETRY_AFTER: Final[Sequence[Header]] = ((b"retry-after", b"1"),)
_NO_RETRY: Final[Sequence[Header]] = ((b"x-should-retry", b"false"),)
_WHO: Final[Sequence[Header]] = ((b"www-authenticate", b"Bearer"),)
_SDK_RETRIES: Final = frozenset({408, 409, 429})
_PATH_CHARS: Final = 200
_PATHS_IN_ERROR: Final = ("/v1/models", *URLS)


async def respond(
    send: Send,
    status: int,
    body: bytes,
    request_id: bytes,
    headers: Sequence[Header] = (),
    content_type: Header = JSON,
) -> None:
    """Send a whole response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                content_type,
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, error: HeadraceError) -> None:
    """Answer a request that was not queued."""
    status = error.kind.http_status
    await respond(send, status, error.body(), new_request_id().encode(), refusal_headers(error))


def refusal_headers(error: HeadraceError) -> Sequence[Header]:
    """What a refusal says besides its body; nothing was queued."""
    if isinstance(error, QueueFull):
        return ((b"retry-after", b"%d" % error.retry_after_s),)
    if isinstance(error, QuotaSpent):
        after_s = heeded_retry_after_s(error.retry_after_s)
        return _NO_RETRY if after_s is None else ((b"retry-after", b"%d" % after_s),)
    if isinstance(error, OverLimit):
        told = () if error.standing is None else limit_headers(error.standing)
        return ((b"retry-after", b"%d" % error.retry_after_s), *told)
    if isinstance(error, InvalidApiKey):
        return _WHO
    return retry_headers(error.kind.http_status, queued=False)


def limit_headers(standing: Standing) -> Sequence[Header]:
    """How near the caller is to its limits, as OpenAI says it; `reset` is when all is there again."""
    said: list[Header] = []
    for name, level in ((b"requests", standing.requests), (b"tokens", standing.tokens)):
        if level is not None:
            said += _level_headers(name, level)
    return said


def _level_headers(name: bytes, level: Level) -> Sequence[Header]:
    return (
        (b"x-ratelimit-limit-" + name, b"%d" % level.limit),
        (b"x-ratelimit-remaining-" + name, b"%d" % level.remaining),
        (b"x-ratelimit-reset-" + name, f"{level.reset_s:g}s".encode()),
    )


def retry_headers(status: int, *, queued: bool) -> Sequence[Header]:
    """What a client should know about sending the request again.

    OpenAI's clients resend on 408, 409, 429 and 5xx; `x-should-retry` overrules that. `queued`: the request
    is in Kafka, so that sending it again would run it twice.
    """
    if status < 500 and status not in _SDK_RETRIES:
        return ()
    return _NO_RETRY if queued else _RETRY_AFTER


def new_request_id() -> str:
    """An id for a request that never becomes a record."""
    return f"http_{uuid.uuid4().hex}"


def problem(error: HeadraceError) -> Response:
    """An error as a Starlette response."""
    headers = {"x-request-id": new_request_id()}
    return Response(error.body(), error.kind.http_status, headers, media_type="application/json")


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals, in our shape."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path[:_PATH_CHARS]
    if status == 405:
        allowed = (getattr(error, "headers", None) or {}).get("Allow", "GET")
        response = problem(MethodNotAllowed(f"{request.method} is not allowed on {path}; use {allowed}"))
        response.headers["allow"] = allowed
        return response
    if status == 404:
        return problem(UnknownPath(f"There is nothing at {path}; there are {', '.join(_PATHS_IN_ERROR)}"))
    return problem(InternalError(str(error)))


async def on_refusal(request: Request, error: Exception) -> Response:
    """An error of the table."""
    del request
    refusal = error if isinstance(error, HeadraceError) else InternalError(str(error))
    response = problem(refusal)
    if isinstance(refusal, OverLimit | QueueFull | QuotaSpent | InvalidApiKey):
        response.headers.update({name.decode(): value.decode() for name, value in refusal_headers(refusal)})
    return response


async def on_error(request: Request, error: Exception) -> Response:
    """A fault of ours; Starlette raises it again, and uvicorn logs it with its trace."""
    del error
    return problem(InternalError(f"The gateway failed on {request.url.path[:_PATH_CHARS]}"))
