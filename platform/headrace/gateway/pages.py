"""Lists, page by page, as OpenAI's clients turn them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import MAX_ID_CHARS
from headrace.core.pages import DEFAULT_LIMIT, MAX_LIMIT, PageQuery
from headrace.gateway.problems import new_request_id

_MAX_DIGITS: Final = 9


def asked(request: Request) -> PageQuery:
    """Which page is asked for.

    Raises:
        InvalidRequest: a parameter is wrong; `param` names it.
    """
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be 'asc' or 'desc'", param="order")
    after = request.query_params.get("after")
    if after is not None and len(after) > MAX_ID_CHARS:
        raise InvalidRequest(f"'after' is over {MAX_ID_CHARS} characters", param="after")
    return PageQuery(after, number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT)), order == "asc")


def number(request: Request, name: str, default: int, between: tuple[int, int]) -> int:
    """A whole number among the query's parameters.

    Raises:
        InvalidRequest: it is none, or not between the two.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    low, high = between
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else low - 1
    if not low <= value <= high:
        raise InvalidRequest(f"'{name}' must be a whole number from {low} to {high}", param=name)
    return value


def page(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> Response:
    """A page of things that have ids."""
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return shown(
        {"object": "list", "data": data, "first_id": ends[0], "last_id": ends[1], "has_more": has_more}
    )


def shown(document: Any) -> Response:
    """A JSON answer."""
    headers = {"x-request-id": new_request_id()}
    return Response(orjson.dumps(document), 200, headers, media_type="application/json")


def listing(found: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """The list object; `found` has one more than `limit` when there is more."""
    data = list(found[:limit])
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        # Without it openai-python asks for pages for ever.
        "has_more": len(found) > limit,
    }
