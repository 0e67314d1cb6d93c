"""Records as people and programs read them."""

from datetime import UTC, datetime
from typing import Any, Final

import orjson

from headrace.core.ports import Record

_MAX_TEXT_CHARS: Final = 200


def document(record: Record) -> dict[str, Any]:
    """The record as a JSON document: place, time, key, headers as text, value as JSON where it is."""
    return {
        "topic": record.place.topic,
        "partition": record.place.partition,
        "offset": record.place.offset,
        "time": stamp(record),
        "key": None if record.key is None else _text(record.key),
        "headers": {name: _text(value) for name, value in record.headers.items()},
        "value": _value(record.value),
    }


def line(record: Record) -> str:
    """The record on one line."""
    place = record.place
    headers = " ".join(f"{name}={_text(value)}" for name, value in record.headers.items())
    value = "(tombstone)" if record.value is None else _text(record.value)
    if len(value) > _MAX_TEXT_CHARS:
        value = f"{value[:_MAX_TEXT_CHARS]}… ({len(record.value or b'')} bytes)"
    return f"{stamp(record)} {place.topic}[{place.partition}]@{place.offset} {headers}\n    {value}"


def stamp(record: Record) -> str:
    """The record's time, to the millisecond."""
    moment = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _value(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return _text(value)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
