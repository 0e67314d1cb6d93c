"""OpenAI's lists: pages by `limit`, `after` and `order`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from headrace.contracts.errors import InvalidRequest

MAX_LIMIT: Final = 100
_DEFAULT: Final = 20


class Wanted(NamedTuple):
    """Which page. after: id of what it follows."""

    limit: int = _DEFAULT
    after: str | None = None
    newest_first: bool = True


def wanted(query: Mapping[str, str]) -> Wanted:
    """The page that a query asks for.

    Raises:
        InvalidRequest: `limit` or `order` is wrong; `param` names it.
    """
    text = query.get("limit", str(_DEFAULT))
    limit = int(text) if text.isdecimal() and len(text) < 6 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"'limit' must be a number from 1 to {MAX_LIMIT}", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be asc or desc", param="order")
    return Wanted(limit, query.get("after"), order == "desc")


def page(found: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
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
