"""A job as callers see it: `/v1/jobs/{id}`."""

from typing import Any, Final, NamedTuple

import orjson

from headrace.contracts.headers import JSON
from headrace.contracts.states import FINAL, State

OBJECT: Final = "inference.job"
URL: Final = "/v1/jobs"
MAX_INLINE_BYTES: Final = 1_000_000
"""A larger result is at `…/result` alone."""


class Queue(NamedTuple):
    """Where a job stands. ahead: requests of its partition without a fate that were there before it.

    eta_s: until it begins, as the model's workers have been working lately; None when they have not.
    """

    ahead: int
    eta_s: int | None = None


class Shown(NamedTuple):
    """What there is to tell of a job. Times in Unix seconds; `body` is its result's, once it has one."""

    id: str
    state: State
    path: str
    model: str
    lane: str
    attempts: int
    created_at_s: float
    deadline_s: float | None = None
    finished_at_s: float | None = None
    expires_at_s: float | None = None
    http_status: int | None = None
    queue: Queue | None = None
    body: bytes | None = None
    content_type: str = ""


def document(job: Shown) -> dict[str, Any]:
    """The JSON object."""
    told = None
    if job.body is not None and job.content_type == JSON.decode() and len(job.body) <= MAX_INLINE_BYTES:
        told = orjson.loads(job.body)
    is_good = job.state in (State.COMPLETED, State.INCOMPLETE)
    error = None if is_good or not isinstance(told, dict) else told.get("error")
    return {
        "id": job.id,
        "object": OBJECT,
        "status": job.state.value,
        "endpoint": job.path,
        "model": job.model,
        "service_tier": job.lane,
        "attempts": job.attempts,
        "created_at": int(job.created_at_s),
        "deadline": _whole(job.deadline_s),
        "finished_at": _whole(job.finished_at_s),
        "expires_at": _whole(job.expires_at_s) if job.state in FINAL else None,
        "http_status": job.http_status,
        "queue": None if job.queue is None else {"ahead": job.queue.ahead, "eta_seconds": job.queue.eta_s},
        "result": told if is_good else None,
        "error": error,
        "urls": urls(job.id),
    }


def urls(job_id: str) -> dict[str, str]:
    """Where to look at it and what to do with it."""
    home = f"{URL}/{job_id}"
    return {name: f"{home}{rest}" for name, rest in _URLS.items()}


_URLS: Final = {"self": "", "result": "/result", "cancel": "/cancel", "events": "/events"}


def _whole(at_s: float | None) -> int | None:
    return None if at_s is None else int(at_s)
