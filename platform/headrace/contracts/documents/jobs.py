"""`/v1/jobs` in the OpenAPI document."""

from typing import Any, Final

from headrace.contracts.documents.operations import (
    PAGE,
    a_list,
    answers,
    obj,
    parameter,
    ref,
    request_id,
    sse,
)
from headrace.contracts.jobs import OBJECT, URL
from headrace.contracts.states import State

_ALWAYS: Final = ("internal_error", "unavailable")
_FINDS: Final = ("job_not_found", *_ALWAYS)
_TEXT: Final = {"type": "string"}
_MAYBE_TIME: Final = {"type": ["integer", "null"], "description": "Unix seconds."}

SCHEMAS: Final[dict[str, Any]] = {
    "Job": obj(
        {
            "id": _TEXT,
            "object": {"const": OBJECT},
            "status": {"enum": list(State)},
            "endpoint": {**_TEXT, "description": "Path of the request; empty for a moment after it came."},
            "model": _TEXT,
            "service_tier": _TEXT,
            "attempts": {"type": "integer"},
            "created_at": {"type": "integer", "description": "Unix seconds."},
            "deadline": _MAYBE_TIME,
            "finished_at": _MAYBE_TIME,
            "expires_at": {**_MAYBE_TIME, "description": "Until when the result is kept."},
            "http_status": {"type": ["integer", "null"], "description": "Of the result."},
            "queue": {
                "description": "Where it stands while it waits; null when that is not known.",
                "anyOf": [
                    obj(
                        {
                            "ahead": {
                                "type": "integer",
                                "description": "Requests of its partition before it.",
                            },
                            "eta_seconds": {"type": ["integer", "null"]},
                        }
                    ),
                    {"type": "null"},
                ],
            },
            "result": {"description": "The body that a caller who waits would have had, up to 1 MB."},
            "error": {"type": ["object", "null"]},
            "urls": obj(dict.fromkeys(("self", "result", "cancel", "events"), _TEXT)),
        }
    ),
    "JobList": a_list("Job"),
    "JobDeleted": obj({"id": _TEXT, "object": {"const": OBJECT}, "deleted": {"const": True}}),
}


def paths() -> dict[str, Any]:
    """The paths."""
    one = {"parameters": [parameter("Id")]}
    page = {
        "operationId": "listJobs",
        "summary": "The caller's jobs",
        "parameters": [
            *(parameter(name) for name in PAGE),
            {"name": "status", "in": "query", "schema": {"type": "array", "items": {"enum": list(State)}}},
            {"name": "model", "in": "query", "schema": _TEXT},
        ],
        "responses": answers("JobList", ("invalid_request", *_ALWAYS)),
    }
    return {
        URL: {"get": page},
        f"{URL}/{{id}}": {
            **one,
            "get": _plain("retrieveJob", "Where a job stands", "Job", _FINDS),
            "delete": _plain(
                "deleteJob", "Remove a job that is over", "JobDeleted", (*_FINDS, "job_running")
            ),
        },
        f"{URL}/{{id}}/result": {**one, "get": _result()},
        f"{URL}/{{id}}/cancel": {**one, "post": _plain("cancelJob", "Stop a job", "Job", _FINDS)},
        f"{URL}/{{id}}/events": {**one, "get": _events()},
    }


def accepted() -> dict[str, Any]:
    """The answer to `Prefer: respond-async`."""
    return {
        "description": "It is queued, as `Prefer: respond-async` or `wait` asked for.",
        "headers": {
            **request_id(),
            "location": {"description": "Where to look at it.", "schema": _TEXT},
            "retry-after": {"schema": {"type": "integer"}},
            "preference-applied": {"schema": _TEXT},
        },
        "content": {"application/json": {"schema": ref("Job")}},
    }


def _plain(operation_id: str, summary: str, schema: str, codes: tuple[str, ...]) -> dict[str, Any]:
    return {"operationId": operation_id, "summary": summary, "responses": answers(schema, codes)}


def _result() -> dict[str, Any]:
    told = _plain("retrieveJobResult", "The exact answer, once there is one", "Job", _FINDS)
    told["responses"]["202"] = {**told["responses"]["200"], "description": "There is none yet: the job."}
    told["responses"]["200"] = {
        "description": "The body that a caller who waits would have had; an error has its own status.",
        "headers": request_id(),
        "content": {"*/*": {}},
    }
    told["responses"]["default"] = {"description": "The job's own error.", "content": {"*/*": {}}}
    return told


def _events() -> dict[str, Any]:
    told = _plain("followJob", "What happens to a job, until it has ended", "Job", _FINDS)
    told["description"] = (
        "Events `status` (the job), `chunk` (as a stream of the path has them), `reset` (all chunks so far "
        "are void), and last the final status (the job), or `error`. `Last-Event-ID` says where to go on."
    )
    told["parameters"] = [{"name": "last-event-id", "in": "header", "schema": _TEXT}]
    told["responses"]["200"]["content"] = {"text/event-stream": {"schema": sse({})}}
    return told
