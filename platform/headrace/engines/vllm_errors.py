"""What vLLM says went wrong, as one of our errors. Pure.

Some of it vLLM raises and some it answers with; its own HTTP server makes one error body of both, and so
here `ErrorInfo` is that body: `message`, `code` (an HTTP status), `param`.
"""

import re
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from headrace.contracts.errors import ContextLengthExceeded, EngineFailed, HeadraceError, InvalidRequest

_DETAILS: Final = re.compile(
    r" \((?:parameter=(?P<param>[^\s,)]+))?(?:, )?(?:value=(?P<value>.*))?\)$", re.DOTALL
)
_UNSERVABLE: Final = 501
"""A feature that this model lacks."""


class ErrorInfo(NamedTuple):
    """One of vLLM's errors. `code` is an HTTP status."""

    message: str
    code: int
    param: str | None = None


def explain(error: ErrorInfo, context_tokens: int, prompt_field: str) -> HeadraceError:
    """The error for the caller.

    Args:
        error: vLLM's.
        context_tokens: of the model.
        prompt_field: the body's field that holds the prompt.
    """
    details = _DETAILS.search(error.message)
    message = error.message[: details.start()] if details else error.message
    if error.param in {"input_text", "input_tokens"}:
        size = details["value"] if details else "too many"
        has = f"{size} tokens" if error.param == "input_tokens" else f"{size} characters, too many tokens"
        return ContextLengthExceeded(
            f"The prompt has {has} and the model's context holds {context_tokens}: shorten it",
            param=prompt_field,
        )
    if error.code < 500 or error.code == _UNSERVABLE:
        return InvalidRequest(f"vLLM cannot serve this request: {message}", param=error.param)
    return EngineFailed(f"vLLM failed: {message}")


def explain_field(error: ValidationError) -> InvalidRequest:
    """The error for a body whose fields vLLM does not take; it names the first."""
    item: Any = error.errors(include_url=False, include_context=False)[0]
    where = [str(part) for part in item["loc"][:1]]
    # Behind it come names of vLLM's classes, except for a list's number.
    where += [str(part) for part in item["loc"][1:2] if isinstance(part, int)]
    param = ".".join(where) or None
    return InvalidRequest(f"vLLM cannot take '{param}': {item['msg']}", param=param)
