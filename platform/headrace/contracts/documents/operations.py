"""Pieces that operations of the OpenAPI document are made of."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from headrace.contracts.errors import ERRORS

Part = dict[str, Any]

PAGE: Final = ("Limit", "After", "Order")
"""Parameters of every list."""

PARAMETERS: Final[Mapping[str, Part]] = {
    "Model": {
        "name": "model",
        "in": "path",
        "required": True,
        "description": "Name of the model; a slash in it may be escaped or not.",
        "schema": {"type": "string"},
    },
    "Id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
    "Limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    },
    "After": {
        "name": "after",
        "in": "query",
        "description": "Id of the last one of the page before.",
        "schema": {"type": "string"},
    },
    "Order": {
        "name": "order",
        "in": "query",
        "description": "By time: newest first, or oldest first.",
        "schema": {"enum": ["asc", "desc"], "default": "desc"},
    },
}


def ref(schema: str) -> Part:
    """A schema of the document."""
    return {"$ref": f"#/components/schemas/{schema}"}


def parameter(name: str) -> Part:
    """A parameter of the document."""
    return {"$ref": f"#/components/parameters/{name}"}


def request_id() -> Part:
    """The headers that every answer has."""
    return {"x-request-id": {"$ref": "#/components/headers/RequestId"}}


def answers(schema: str, codes: Iterable[str], *, status: int = 200) -> Part:
    """A JSON answer, and an error for each status that the codes have."""
    statuses = sorted({ERRORS[code].http_status for code in codes})
    return {
        str(status): {
            "description": "The answer.",
            "headers": request_id(),
            "content": {"application/json": {"schema": ref(schema)}},
        },
        **{str(each): {"$ref": f"#/components/responses/Error{each}"} for each in statuses},
    }


def sse(schema: Part) -> Part:
    """The schema of server-sent events: of one event, as OpenAPI 3.2 has it; `schema`: of its JSON data."""
    text: Part = {"type": "string"}
    data = {**text, "contentMediaType": "application/json", "contentSchema": schema}
    return obj({"data": data, "event": text, "id": text}, optional=("event", "id"))


def obj(properties: Mapping[str, Part], *, optional: tuple[str, ...] = ()) -> Part:
    """The schema of an object; all but the `optional` are required."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def a_list(items: str) -> Part:
    """The schema of OpenAI's list of such objects."""
    maybe: Part = {"type": ["string", "null"]}
    return obj(
        {
            "object": {"const": "list"},
            "data": {"type": "array", "items": ref(items)},
            "first_id": maybe,
            "last_id": maybe,
            "has_more": {"type": "boolean"},
        }
    )
