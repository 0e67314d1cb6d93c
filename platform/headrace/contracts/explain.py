"""What is wrong with a request body, as a sentence for the person who wrote it.

Pydantic speaks of validators and union branches; callers know fields, values and JSON.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from headrace.contracts.errors import InvalidRequest, MalformedBody

_MAX_SHOWN_CHARS: Final = 40

_NONE: Final[Mapping[str, str]] = {}
_SHAPES: Final[Mapping[str, str]] = {
    "messages": 'a list of messages such as [{"role": "user", "content": "Hello"}]',
    "content": 'a string or a list of parts such as {"type": "text", "text": "Hello"}',
    "stop": "a string or a list of at most 16 strings",
    "prompt": "a string or a list of strings, with at least one; token ids are not taken",
    "stream_options": 'an object such as {"include_usage": true}',
}
"""Fields whose form no single rule describes, by their last name."""

_TYPES: Final[Mapping[str, str]] = {
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "string": "a string",
    "list": "a list",
    "dict": "an object",
    "model": "an object",
}
"""By the first part of pydantic's error type: `int_parsing` and `int_from_float` are both about an int."""


def explain(error: ValidationError, body: bytes, shapes: Mapping[str, str] = _NONE) -> InvalidRequest:
    """The first thing that is wrong, as an error for the caller; `param` names the field.

    shapes: fields of this body whose form no single rule describes, beside those of all bodies.
    """
    first = error.errors(include_url=False)[0]
    where, kind = first["loc"], first["type"]
    if kind == "json_invalid":
        if not body.strip():
            return MalformedBody("The body is empty; it must be a JSON object")
        return MalformedBody(f"The body is not valid JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if not where:
        return MalformedBody("The body must be a JSON object")
    if kind == "extra_forbidden":
        # Any string may be a key.
        unknown = ".".join(str(part) for part in where)[:_MAX_SHOWN_CHARS]
        return InvalidRequest(f"There is no field '{unknown}'", param=unknown)
    path = _fields(where) or list(where)
    param = ".".join(str(part) for part in path)
    shape = shapes.get(str(path[-1])) or _SHAPES.get(str(path[-1]))
    if kind == "missing":
        return InvalidRequest(f"Field '{param}' is required" + (f": {shape}" if shape else ""), param=param)
    sentence = f"Field '{param}' must be {shape or _rule(first)}"
    with suppress(orjson.JSONDecodeError):  # pydantic reads NaN and Infinity, which are no JSON
        sentence += f"; it is {_found(_value(body, path))}"
    return InvalidRequest(sentence, param=param)


def _fields(where: tuple[int | str, ...]) -> list[int | str]:
    """The caller's part of a location: up to the union branch, such as `str` or `list[constrained-str]`."""
    found: list[int | str] = []
    for part in where:
        if isinstance(part, str) and (part == "str" or not part.isidentifier()):
            break
        found.append(part)
    return found


def _rule(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    kind = error["type"]
    if kind == "greater_than_equal":
        return f"at least {context['ge']:g}"
    if kind == "less_than_equal":
        return f"at most {context['le']:g}"
    if kind == "literal_error":
        return f"one of {context['expected'].replace(' or ', ', ')}"
    if kind == "finite_number":
        return "a finite number"
    return _TYPES.get(kind.partition("_")[0], f"something else ({error['msg']})")


def _value(body: bytes, path: list[int | str]) -> Any:
    """What the body holds there; pydantic's own `input` is a branch's, and may have been changed."""
    found: Any = orjson.loads(body)
    for part in path:
        found = found[part]
    return found


def _found(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    shown = orjson.dumps(value).decode()
    if len(shown) > _MAX_SHOWN_CHARS:
        return f"{shown[:_MAX_SHOWN_CHARS]}…"
    return shown
