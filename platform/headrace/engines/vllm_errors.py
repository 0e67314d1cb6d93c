"""What vLLM says went wrong, as one of our errors. Pure.

Some of it vLLM raises and some it answers with; its own HTTP server makes one error body of both, and so
here `ErrorInfo` is that body: `message`, `code` (an HTTP status), `param`.
"""

import re
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from headrace.contracts.errors import ContextLengthExceeded, EngineFailed, HeadraceError, InvalidRequest

_DETAILS: Final = re.compile(
    r" \((?:parameter=(?P<param>[^\s,)]+))?(?:, )?(?:value=(?P<value>.*))?\)$", re.DOTALL
)
_WORDS: Final = re.compile(r"\w+")
_PLAIN_WORDS: Final = frozenset({"documents", "messages", "model", "prompt", "stop", "stream", "user"})
_SCHEMAS: Final = re.compile("schema|grammar|regex", re.IGNORECASE)
_UNSERVABLE: Final = 501
"""A feature that this model lacks."""


class ErrorInfo(NamedTuple):
    """One of vLLM's errors. `code` is an HTTP status."""

    message: str
    code: int
    param: str | None = None


class Asked(NamedTuple):
    """What was asked for. `fields` are the body's."""

    context_tokens: int
    fields: Collection[str]


def explain(error: ErrorInfo, asked: Asked) -> HeadraceError:
    """The error for the caller."""
    details = _DETAILS.search(error.message)
    message = error.message[: details.start()] if details else error.message
    if error.param in {"input_text", "input_tokens"}:
        size = details["value"] if details else "too many"
        if "at least" in message:
            size = f"at least {size}"
        has = f"{size} tokens" if error.param == "input_tokens" else f"{size} characters, too many tokens"
        return ContextLengthExceeded(
            f"The prompt has {has} and the model's context holds {asked.context_tokens}: shorten it",
            param="messages" if "messages" in asked.fields else "prompt",
        )
    if error.code < 500 or error.code == _UNSERVABLE:
        param = error.param or _named(message, asked.fields)
        return InvalidRequest(f"vLLM cannot serve this request: {message}", param=param)
    return EngineFailed(f"vLLM failed: {message}")


def _named(message: str, fields: Collection[str]) -> str | None:
    """The field that a message is about, where vLLM does not say it apart."""
    for word in _WORDS.findall(message):
        if word in fields and word not in _PLAIN_WORDS:
            return str(word)
    is_about_schema = "response_format" in fields and _SCHEMAS.search(message)
    return "response_format" if is_about_schema else None


def explain_field(error: ValidationError) -> InvalidRequest:
    """The error for a body whose fields vLLM does not take; it names the first."""
    item: Any = error.errors(include_url=False, include_context=False)[0]
    where = [str(part) for part in item["loc"][:1]]
    # Behind it come names of vLLM's classes, except for a list's number.
    where += [str(part) for part in item["loc"][1:2] if isinstance(part, int)]
    param = ".".join(where) or None
    return InvalidRequest(f"vLLM cannot take '{param}': {item['msg']}", param=param)
