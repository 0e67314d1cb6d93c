"""JSON Schemas of a function's own data: what it takes, and what it gives."""

from collections.abc import Sequence
from typing import Any, Final

import jsonschema_rs

_MAX_SENTENCE_CHARS: Final = 400


class Checker:
    """One JSON Schema. Only what it says itself is used: nothing is fetched for a `$ref`.

    Patterns are those of a regular expression engine without backtracking: no value takes it long.

    Raises:
        ValueError: the schema is none.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._check = jsonschema_rs.validator_for(
            schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )

    def fault(self, value: object, *, of: str) -> tuple[str, str] | None:
        """The first thing that is wrong with `value`: its field, beginning with `of`, and a sentence."""
        error = next(self._check.iter_errors(value), None)
        if error is None:
            return None
        field = _field(of, error.instance_path)
        sentence = f"Field '{field}': {error.message}"
        if len(sentence) > _MAX_SENTENCE_CHARS:
            sentence = f"{sentence[:_MAX_SENTENCE_CHARS]}…"
        return field, sentence


def check_schema(schema: dict[str, Any]) -> str | None:
    """What is wrong with a JSON Schema itself, in a sentence; None when nothing is."""
    try:
        Checker(schema)
    except ValueError as error:
        return str(error).splitlines()[0]
    return None


def _field(of: str, path: Sequence[str | int]) -> str:
    return ".".join([of, *map(str, path)])
