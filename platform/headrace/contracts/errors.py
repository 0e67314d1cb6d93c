"""Every error a caller can meet, as one table, and the exceptions that carry it.

HeadraceError
├── InvalidRequest              400  the caller must change something
│   ├── MalformedBody           400
│   ├── ContextLengthExceeded   400
│   ├── InvalidApiKey           401
│   ├── InsufficientScope       403
│   ├── UnknownModel            404
│   ├── UnknownJob              404
│   ├── UnknownResponse         404
│   ├── UnknownWebhook          404
│   ├── UnknownPath             404
│   ├── NotFound                404
│   ├── MethodNotAllowed        405
│   ├── NotAcceptable           406
│   ├── JobRunning              409
│   ├── BodyTooLarge            413
│   ├── WrongContentType        415
│   └── KeyReused               422
├── Overloaded                  429  admission refused it: nothing was enqueued
│   ├── QueueFull               429  too many wait for the model: nothing was enqueued
│   └── QuotaSpent              429  the day's quota is used up: nothing was enqueued
├── RequestCancelled            499
├── InternalError               500  a fault of ours
├── EngineFailed                500  the engine raised on this request
├── EngineCrashed               500  the request ended its engine, time and again
├── NotSetUp                    501  a setting is missing
├── Unavailable                 503  no broker or no partition: nothing was enqueued
│   └── NotPermitted            503  the broker's permissions forbid it, or the topic's rules
└── RequestExpired              504  its deadline passed

SetupError stands apart: it is for the person at the keyboard (a taken port, a bad manifest), never for
the wire. So does EngineDied: it ends a worker, and no request hears of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson

PROBLEM_BASE_URL: Final = "https://headrace.dev/errors/"
"""Prefix of RFC 9457 `type`; an identifier, nothing is fetched from it."""


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the error table.

    `retryable` says whether the same request, unchanged, may succeed later: a worker retries such a
    failure, an HTTP client is told `x-should-retry`.
    """

    code: str
    title: str
    http_status: int
    type: str
    retryable: bool


_ROWS: Final = (
    ErrorKind("invalid_request", "Invalid request", 400, "invalid_request_error", False),
    ErrorKind("malformed_body", "Malformed body", 400, "invalid_request_error", False),
    ErrorKind("context_length_exceeded", "Prompt too long", 400, "invalid_request_error", False),
    ErrorKind("invalid_api_key", "No valid API key", 401, "invalid_request_error", False),
    ErrorKind("insufficient_scope", "Key for other things", 403, "invalid_request_error", False),
    ErrorKind("model_not_found", "Unknown model", 404, "invalid_request_error", False),
    ErrorKind("job_not_found", "Unknown job", 404, "invalid_request_error", False),
    ErrorKind("response_not_found", "Unknown response", 404, "invalid_request_error", False),
    ErrorKind("webhook_not_found", "Unknown webhook", 404, "invalid_request_error", False),
    ErrorKind("path_not_found", "Unknown path", 404, "invalid_request_error", False),
    ErrorKind("not_found", "Not found", 404, "invalid_request_error", False),
    ErrorKind("method_not_allowed", "Method not allowed", 405, "invalid_request_error", False),
    ErrorKind("not_acceptable", "No such form", 406, "invalid_request_error", False),
    ErrorKind("job_running", "Job not over", 409, "invalid_request_error", False),
    ErrorKind("body_too_large", "Body too large", 413, "invalid_request_error", False),
    ErrorKind("wrong_content_type", "Wrong content type", 415, "invalid_request_error", False),
    ErrorKind("idempotency_key_reused", "Key used before", 422, "invalid_request_error", False),
    ErrorKind("overloaded", "Too many requests", 429, "rate_limit_error", True),
    ErrorKind("queue_full", "Queue full", 429, "rate_limit_error", True),
    ErrorKind("insufficient_quota", "Quota used up", 429, "insufficient_quota", False),
    ErrorKind("request_cancelled", "Cancelled", 499, "request_cancelled", False),
    ErrorKind("internal_error", "Internal error", 500, "server_error", True),
    ErrorKind("engine_failed", "Engine failed", 500, "server_error", True),
    ErrorKind("engine_crashed", "Engine crashed", 500, "server_error", False),
    ErrorKind("not_set_up", "Not set up", 501, "server_error", False),
    ErrorKind("unavailable", "Unavailable", 503, "server_error", True),
    ErrorKind("request_expired", "Deadline passed", 504, "timeout_error", False),
)
ERRORS: Final[Mapping[str, ErrorKind]] = {row.code: row for row in _ROWS}


class HeadraceError(Exception):
    """An error with a row in `ERRORS`.

    `message` says what happened and what to do; `param` names the field.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def kind(self) -> ErrorKind:
        """The row of the error table."""
        return ERRORS[self.code]

    def body(self) -> bytes:
        """The merged error body: OpenAI's `error` object and RFC 9457's members beside it."""
        return error_body(self.kind, self.message, self.param)


class InvalidRequest(HeadraceError):
    """The request cannot be served as it is."""

    code = "invalid_request"


class MalformedBody(InvalidRequest):
    """The body is not JSON, or not an object."""

    code = "malformed_body"


class ContextLengthExceeded(InvalidRequest):
    """The prompt does not fit the model's context."""

    code = "context_length_exceeded"


class InvalidApiKey(InvalidRequest):
    """There is no API key, or one that opens nothing."""

    code = "invalid_api_key"


class InsufficientScope(InvalidRequest):
    """The API key is for other things."""

    code = "insufficient_scope"


class UnknownModel(InvalidRequest):
    """No such model is deployed."""

    code = "model_not_found"


class UnknownJob(InvalidRequest):
    """The caller's tenant has no such job, or has it no more."""

    code = "job_not_found"


class UnknownResponse(InvalidRequest):
    """The caller's tenant has no such Response, or has it no more."""

    code = "response_not_found"


class UnknownWebhook(InvalidRequest):
    """The caller's tenant has no such endpoint or delivery."""

    code = "webhook_not_found"


class JobRunning(InvalidRequest):
    """What was asked for can only be done with a job that is over."""

    code = "job_running"


class KeyReused(InvalidRequest):
    """The idempotency key came before, with another request."""

    code = "idempotency_key_reused"


class UnknownPath(InvalidRequest):
    """No such path, or the model does not serve it."""

    code = "path_not_found"


class NotFound(InvalidRequest):
    """No such file, batch or job of this caller's."""

    code = "not_found"


class MethodNotAllowed(InvalidRequest):
    """The path exists, with another method."""

    code = "method_not_allowed"


class NotAcceptable(InvalidRequest):
    """The model does not answer in any form that the caller takes."""

    code = "not_acceptable"


class BodyTooLarge(InvalidRequest):
    """The body is over the limit."""

    code = "body_too_large"


class WrongContentType(InvalidRequest):
    """The body is not declared as JSON."""

    code = "wrong_content_type"


class Overloaded(HeadraceError):
    """Admission refused the request; nothing was enqueued."""

    code = "overloaded"


class QueueFull(Overloaded):
    """A model's lanes or a tenant hold as many as they may. `retry_after_s`: whole seconds, 1 to 60."""

    code = "queue_full"

    def __init__(self, message: str, retry_after_s: int = 1, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class QuotaSpent(Overloaded):
    """The day's quota of a tenant or a key is used up. `retry_after_s`: whole seconds until the next day."""

    code = "insufficient_quota"

    def __init__(self, message: str, retry_after_s: int = 1, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class RequestCancelled(HeadraceError):
    """The caller left or asked for it."""

    code = "request_cancelled"


class InternalError(HeadraceError):
    """A fault of ours."""

    code = "internal_error"


class EngineFailed(HeadraceError):
    """The engine raised on this request."""

    code = "engine_failed"


class EngineCrashed(HeadraceError):
    """The request ended its engine time and again, at last alone."""

    code = "engine_crashed"


class NotSetUp(HeadraceError):
    """The operator has not given what this needs; the message names the setting."""

    code = "not_set_up"


class Unavailable(HeadraceError):
    """No broker, or no partition to write to; nothing was enqueued."""

    code = "unavailable"


class NotPermitted(Unavailable):
    """Kafka does not let us write to this topic, or not this; waiting does not mend it.

    To callers it is `Unavailable`.
    """


class RequestExpired(HeadraceError):
    """The deadline passed before a result."""

    code = "request_expired"


class EngineDied(Exception):
    """The engine can serve nothing any more: the worker ends, with all that is in flight, and starts anew."""


class SetupError(Exception):
    """Something the operator must change; the message is one sentence that says what."""


def error_body(kind: ErrorKind, message: str, param: str | None = None) -> bytes:
    """Build the merged error body; both halves say the same."""
    body: dict[str, Any] = {
        "error": {"message": message, "type": kind.type, "param": param, "code": kind.code},
        "type": PROBLEM_BASE_URL + kind.code,
        "title": kind.title,
        "status": kind.http_status,
        "detail": message,
    }
    return orjson.dumps(body)


def of_code(code: str, message: str, *, param: str | None = None) -> HeadraceError:
    """The exception of a code of the table; `HeadraceError` itself for one that has none of its own."""
    found = next((kind for kind in _tree(HeadraceError) if kind.__dict__.get("code") == code), HeadraceError)
    error = found.__new__(found)
    # Not by its own constructor: some take more than went over the wire.
    HeadraceError.__init__(error, message, param=param)
    return error


def _tree(kind: type[HeadraceError]) -> Iterator[type[HeadraceError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)
