"""What an answer says about itself, without reading all of it. Pure."""

import re
from typing import Final, NamedTuple

_NUMBER: Final = re.compile(rb"\s*:\s*(\d+)")
_REASON: Final = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]+)"')
_USAGE: Final = b'"usage"'
_INPUT: Final = b'"prompt_tokens"', b'"input_tokens"'
_OUTPUT: Final = b'"completion_tokens"', b'"output_tokens"'
"""Of chats and of responses."""


class Usage(NamedTuple):
    """Tokens of a request; None where the answer does not say."""

    input_tokens: int | None
    output_tokens: int | None


NOTHING: Final = Usage(None, None)


def usage_of(answer: bytes) -> Usage:
    """The tokens that an OpenAI response counts.

    Within a JSON string every quote is escaped, so that what is found is a key. It is the last one: engines
    write it behind the choices.
    """
    at = answer.rfind(_USAGE)
    if at < 0:
        return NOTHING
    return Usage(_number(answer, _INPUT, at), _number(answer, _OUTPUT, at))


def _number(answer: bytes, names: tuple[bytes, ...], at: int) -> int | None:
    name = names[0] if answer.find(names[0], at) >= 0 else names[1]
    # The first of a name is the count itself; others would be details of it.
    found = answer.find(name, at)
    number = None if found < 0 else _NUMBER.match(answer, found + len(name))
    return None if number is None else int(number[1])


def finish_reasons_of(answer: bytes) -> list[str]:
    """Why each choice ended."""
    return [reason.decode() for reason in _REASON.findall(answer)]
