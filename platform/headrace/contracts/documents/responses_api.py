"""`/v1/responses` in the OpenAPI document, but for making one, which is inference."""

from typing import Any, Final

from headrace.contracts.documents.operations import PAGE, answers, obj, parameter, ref, sse
from headrace.contracts.requests import RESPONSES

_CODES: Final = ("response_not_found", "internal_error", "unavailable")
_TEXT: Final = {"type": "string"}
_MAYBE: Final = {"type": ["object", "null"]}

SCHEMAS: Final[dict[str, Any]] = {
    "Response": obj(
        {
            "id": {"type": "string", "pattern": "^resp_"},
            "object": {"const": "response"},
            "created_at": {"type": "integer", "description": "Unix seconds."},
            "status": {"enum": ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]},
            "model": _TEXT,
            "output": {"type": "array", "items": {"type": "object"}},
            "error": _MAYBE,
            "incomplete_details": _MAYBE,
            "usage": _MAYBE,
            "metadata": {"type": "object"},
        }
    ),
    "ResponseChunk": {
        **obj({"type": _TEXT, "sequence_number": {"type": "integer"}}),
        "description": "An event of OpenAI's stream of a Response.",
    },
    "ResponseDeleted": obj(
        {"id": _TEXT, "object": {"const": "response.deleted"}, "deleted": {"const": True}}
    ),
    "ResponseItemList": obj(
        {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"type": "object"}},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
            "has_more": {"type": "boolean"},
        }
    ),
}


def paths() -> dict[str, Any]:
    """The paths."""
    one = {"parameters": [parameter("Id")]}
    here = f"{RESPONSES}/{{id}}"
    return {
        here: {
            **one,
            "get": _retrieve(),
            "delete": _plain("deleteResponse", "Cancel it if it runs, and remove it", "ResponseDeleted"),
        },
        f"{here}/cancel": {**one, "post": _plain("cancelResponse", "Stop it", "Response")},
        f"{here}/input_items": {
            **one,
            "get": {
                **_plain("listInputItems", "What it was asked", "ResponseItemList", ("invalid_request",)),
                "parameters": [parameter(name) for name in PAGE],
            },
        },
    }


def _retrieve() -> dict[str, Any]:
    told = _plain("retrieveResponse", "A Response, or its stream once more", "Response", ("invalid_request",))
    told["parameters"] = [
        {"name": "stream", "in": "query", "schema": {"enum": ["true", "false"]}},
        {
            "name": "starting_after",
            "in": "query",
            "description": "With `stream`: the number of the last event that was read.",
            "schema": {"type": "integer"},
        },
    ]
    told["responses"]["200"]["content"]["text/event-stream"] = {"schema": sse(ref("ResponseChunk"))}
    return told


def _plain(operation_id: str, summary: str, schema: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"operationId": operation_id, "summary": summary, "responses": answers(schema, (*more, *_CODES))}
