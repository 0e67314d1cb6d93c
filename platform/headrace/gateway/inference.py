"""The paths that run models: whole answers and streams.

Raw ASGI: they carry the load.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from headrace.contracts.errors import (
    BodyTooLarge,
    HeadraceError,
    InternalError,
    Unavailable,
    WrongContentType,
)
from headrace.contracts.requests import INFER, INFER_URL, RESPONSES
from headrace.core.addresses import Rules
from headrace.gateway.callers import Caller, Callers
from headrace.gateway.problems import Header, limit_headers, refuse
from headrace.gateway.resends import Resends, fingerprint
from headrace.gateway.sending import EventStream, NamedEvents, send_answer
from headrace.gateway.submit import Asked, Checked, Submitter
from headrace.gateway.terms import of as terms_of
from headrace.gateway.waiting import GONE, Answer, Waiting, WaitingStream
from headrace.gateway.webhook_urls import wanted
from headrace.telemetry.gateway import Exchange, GatewayTelemetry

_log = logging.getLogger(__name__)

PREVIOUS: Final = b'"previous_response_id"'
_BEFORE_MODEL, _BEHIND_MODEL = INFER_URL.split("{model}")


def is_infer(path: str) -> bool:
    """Whether a URL's path is that of tensors for some model; names may have slashes."""
    has_name = len(path) > len(_BEFORE_MODEL) + len(_BEHIND_MODEL)
    return has_name and path.startswith(_BEFORE_MODEL) and path.endswith(_BEHIND_MODEL)


class ClientGone(Exception):
    """The caller has closed the connection before its request was whole."""


class Keeps(Protocol):
    """Serves requests whose answers are kept; see `gateway.kept`."""

    async def serve(self, checked: Checked, exchange: Exchange, send: Send) -> int:
        """Answer; returns the HTTP status."""
        ...


class History(Protocol):
    """Responses that came before; see `gateway.responses`."""

    async def told(self, caller: Caller, body: bytes) -> bytes:
        """The same body, with what was said before in its input."""
        ...


@dataclass(frozen=True, slots=True)
class InferenceParts:
    """What all inference paths share."""

    submitter: Submitter
    callers: Callers
    kept: Keeps | None
    resends: Resends
    rules: Rules
    telemetry: GatewayTelemetry
    history: History | None = None


class Inference:
    """One inference path, as an ASGI application."""

    def __init__(self, path: str, parts: InferenceParts) -> None:
        self._path = path
        self._route = INFER_URL if path == INFER else path
        self._telemetry = parts.telemetry
        self._submitter = parts.submitter
        self._callers = parts.callers
        self._kept = parts.kept
        self._resends = parts.resends
        self._rules = parts.rules
        self._history = parts.history
        self._events = NamedEvents if path == RESPONSES else EventStream
        self._limit_bytes = parts.submitter.settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = _headers(scope)
        exchange = self._telemetry.begin(headers, self._route, scope["path"])
        try:
            checked = await self._check(scope, headers, receive)
            if checked.is_kept:
                exchange.end(await self._keep(checked, exchange, send))
                return
            waiting, is_first = await self._wait(checked, exchange)
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
            self._submitter.replies.pass_on(waiting, partial(_disconnected, receive))
            try:
                await self._answer(waiting, send)
            finally:
                if is_first:
                    self._submitter.release(checked, waiting)
                done = waiting.future.done() and not waiting.future.cancelled()
                exchange.end(waiting.future.result().http_status if done else GONE.http_status)

    async def _check(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Checked:
        # Before the body: who may not ask need not send it.
        caller = await self._callers.admit(scope["headers"])
        value = await _read_body(headers, receive, self._limit_bytes)
        terms = terms_of(headers)
        if self._path == RESPONSES and self._history is not None and PREVIOUS in value:
            value = await self._history.told(caller, value)
        asked = Asked(
            self._path,
            value,
            self._model(scope),
            caller.key,
            headers.get(b"accept"),
            terms,
            webhook=wanted(headers, value, self._rules),
            account=caller.account,
        )
        return self._submitter.check(asked)

    async def _keep(self, checked: Checked, exchange: Exchange, send: Send) -> int:
        if self._kept is None:
            raise Unavailable("This gateway has no database, so it keeps no answers")
        return await self._kept.serve(checked, exchange, send)

    async def _wait(self, checked: Checked, exchange: Exchange) -> tuple[Waiting, bool]:
        """Who waits for the answer, and whether it began with this request."""
        resend = checked.terms.resend
        if resend is None:
            return await self._submitter.submit(checked, exchange), True
        told = fingerprint(checked.tenant, checked.path, checked.value)
        found = self._resends.find(told) if resend else None
        if found is not None:
            _log.info("request %s was sent again: it goes on", found.request_id)
            return found, False
        waiting = await self._submitter.submit(checked, exchange)
        self._resends.note(told, waiting)
        return waiting, True

    def _model(self, scope: Scope) -> str | None:
        """The model's name in the URL, where it is in there."""
        return scope["path"][len(_BEFORE_MODEL) : -len(_BEHIND_MODEL)] if self._path == INFER else None

    async def _answer(self, waiting: Waiting, send: Send) -> None:
        try:
            if isinstance(waiting, WaitingStream):
                await _stream(waiting, self._events(send, waiting.key, _limits(waiting)))
            else:
                answer = await waiting.future
                if answer is not GONE:
                    await send_answer(send, answer, waiting.key, _limits(waiting))
        except Exception:  # noqa: BLE001  # uvicorn's own answer would make clients send it again
            _log.exception("a fault of ours on request %s", waiting.request_id)
            error = InternalError("The gateway failed on the answer")
            await send_answer(send, Answer(error.kind.http_status, error.body()), waiting.key)


async def _stream(waiting: WaitingStream, sse: EventStream) -> None:
    had = 0
    while (chunks := await waiting.next(had)) is not None:
        had += len(chunks)
        await (sse.data(chunks) if chunks else sse.comment())
    answer = waiting.future.result()
    if answer is not GONE:
        await sse.end(answer)


def _limits(waiting: Waiting) -> Sequence[Header]:
    return () if waiting.standing is None else limit_headers(waiting.standing)


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
