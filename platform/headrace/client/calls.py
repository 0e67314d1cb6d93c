"""What is asked over HTTP and how answers are read. No IO: both clients share it."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from headrace.client.events import Event
from headrace.contracts.errors import HeadraceError, of_code
from headrace.contracts.jobs import URL

MAX_PAUSE_S: Final = 60.0
_RETRIED: Final = frozenset({429, 503})
"""Nothing was queued: so says the server, by `Retry-After` and without `x-should-retry: false`."""


class Call(NamedTuple):
    """One HTTP request. is_safe: sending it twice does no harm."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    is_safe: bool = True


class Options(NamedTuple):
    """How a job is to be run.

    idempotency_key: makes all submits with it one job; a submit whose connection broke is then sent again.
    cancel_after_s: give up then. webhook: URL that is told how it ended.
    """

    idempotency_key: str | None = None
    cancel_after_s: int | None = None
    webhook: str | None = None


PLAIN: Final = Options()


def run(path: str, body: Any, options: Options = PLAIN) -> Call:
    """Ask, and wait for the answer."""
    return _inference(path, body, options, {})


def submit(path: str, body: Any, options: Options = PLAIN) -> Call:
    """Make a job."""
    return _inference(path, body, options, {"prefer": "respond-async"})


def job(job_id: str) -> Call:
    """Where it stands."""
    return Call("GET", f"{URL}/{job_id}")


def result(job_id: str) -> Call:
    """Its exact answer."""
    return Call("GET", f"{URL}/{job_id}/result")


def cancel(job_id: str) -> Call:
    """Stop it."""
    return Call("POST", f"{URL}/{job_id}/cancel")


def delete(job_id: str) -> Call:
    """Remove it."""
    return Call("DELETE", f"{URL}/{job_id}")


def events(job_id: str, last_id: str | None) -> Call:
    """What happens to it, behind an event."""
    return Call(
        "GET", f"{URL}/{job_id}/events", headers={} if last_id is None else {"last-event-id": last_id}
    )


def jobs(after: str | None, query: Mapping[str, str]) -> Call:
    """A page of jobs."""
    return Call("GET", URL, query={**query, "limit": "100", **({} if after is None else {"after": after})})


def create_batch(file_id: str, path: str, window: str, metadata: Mapping[str, str] | None) -> Call:
    """Run a file of requests."""
    document = {"input_file_id": file_id, "endpoint": path, "completion_window": window, "metadata": metadata}
    return Call("POST", "/v1/batches", orjson.dumps(document), _JSON, is_safe=False)


def batch(batch_id: str) -> Call:
    """Where it stands."""
    return Call("GET", f"/v1/batches/{batch_id}")


def cancel_batch(batch_id: str) -> Call:
    """Stop it."""
    return Call("POST", f"/v1/batches/{batch_id}/cancel")


_JSON: Final = {"content-type": "application/json"}


def _inference(path: str, body: Any, options: Options, headers: Mapping[str, str]) -> Call:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    said = dict(headers) | _JSON
    if options.idempotency_key is not None:
        said["idempotency-key"] = options.idempotency_key
    if options.cancel_after_s is not None:
        said["cancel-after"] = f"{options.cancel_after_s}s"
    if options.webhook is not None:
        said["headrace-webhook"] = options.webhook
    return Call("POST", path, content, said, is_safe=options.idempotency_key is not None)


def pause_s(status: int, headers: Mapping[str, str], attempt: int) -> float | None:
    """How long to wait before the same call is sent again; None when it must not be."""
    if status not in _RETRIED or headers.get("x-should-retry") == "false":
        return None
    told = headers.get("retry-after", "")
    return min(float(told), MAX_PAUSE_S) if told.isdecimal() else backoff_s(attempt)


def backoff_s(attempt: int) -> float:
    """The pause after the attempt that many before have failed."""
    return min(0.5 * 2.0**attempt, 8.0)


def fault(status: int, content: bytes) -> HeadraceError:
    """The exception that an error response stands for."""
    try:
        return _told(orjson.loads(content))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return HeadraceError(f"HTTP {status}: {content[:500].decode(errors='replace')}")


def good(event: Event) -> Event:
    """The event, unless it is an error, which is raised."""
    if event.kind == "error":
        raise _told(event.data)
    return event


def _told(document: Any) -> HeadraceError:
    error = document["error"]
    return of_code(error["code"], error["message"], param=error["param"])
