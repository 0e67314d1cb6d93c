"""What engines refuse that give one answer to a request, from a model that reads text. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from headrace.contracts.bodies import Body, TextBody
from headrace.contracts.errors import InvalidRequest, UnknownPath
from headrace.contracts.openai import ChatBody, CompletionBody

_BYTES_MAX: Final = {"response_format": 16_384, "tools": 65_536}
"""A schema becomes a grammar. That takes longer than in proportion and cannot be aborted; llama.cpp stops all
slots meanwhile."""


def check_single(body: Body) -> TextBody:
    """Refuse a request for several answers, and one that is not about text.

    A call is one slot of the engine; the worker counts on that when it decides what to take.
    """
    if not isinstance(body, ChatBody | CompletionBody):
        raise UnknownPath("This engine answers chats and completions only")
    if (body.n or 1) > 1:
        raise InvalidRequest(
            "This model gives one choice: send the request several times instead of 'n'", param="n"
        )
    if not isinstance(body, ChatBody) and not isinstance(body.prompt, str) and len(body.prompt) > 1:
        raise InvalidRequest("This model takes one prompt: send a request for each", param="prompt")
    return body


def check_schema_sizes(body: Mapping[str, Any]) -> None:
    """Refuse schemas that would take too long to become a grammar."""
    for name, bytes_max in _BYTES_MAX.items():
        if body.get(name) is None:
            continue
        try:
            size_bytes = len(orjson.dumps(body[name]))
        except TypeError:  # it writes 254 levels, and reads a thousand
            raise InvalidRequest(f"'{name}' is nested too deeply", param=name) from None
        if size_bytes > bytes_max:
            raise InvalidRequest(f"'{name}' is over {bytes_max} bytes", param=name)


def check_text_only(body: ChatBody) -> None:
    """Refuse images, sounds and files."""
    for number, message in enumerate(body.messages):
        parts = message.content if isinstance(message.content, list) else ()
        for part in parts:
            if part.get("type") != "text":
                raise InvalidRequest(
                    f"This model reads text only; a part of message {number} is {part.get('type')!r}",
                    param=f"messages.{number}.content",
                )


def stop_strings(stop: Any) -> list[str]:
    """The stop strings of a body, as a list. An empty one would end every answer before it begins."""
    texts = [stop] if isinstance(stop, str) else stop or ()
    return [text for text in texts if text]
