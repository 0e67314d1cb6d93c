"""What an answer says about itself, without reading all of it. Pure."""

import re
from typing import Final, NamedTuple

_FIELDS: Final = re.compile(rb'"(prompt_tokens|completion_tokens)"\s*:\s*(\d+)')
_REASON: Final = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]+)"')
_USAGE: Final = b'"usage"'


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
    # The last of a name would be a detail below: the first is the count itself.
    found: dict[bytes, int] = {}
    for name, number in _FIELDS.findall(answer, at):
        found.setdefault(name, int(number))
    return Usage(found.get(b"prompt_tokens"), found.get(b"completion_tokens"))


def finish_reasons_of(answer: bytes) -> list[str]:
    """Why each choice ended."""
    return [reason.decode() for reason in _REASON.findall(answer)]
