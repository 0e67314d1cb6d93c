"""aiokafka's records to ours."""

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.core.ports import Place, Record


def record(raw: Any) -> Record:
    """One consumed record. Null headers are dropped; of a repeated header the last one counts."""
    headers = {name: value for name, value in raw.headers if value is not None}
    return Record(Place(raw.topic, raw.partition, raw.offset), raw.key, raw.value, headers, raw.timestamp)


def flatten(batches: Mapping[Any, Iterable[Any]]) -> list[Record]:
    """All records of a poll, in order within each partition."""
    return [record(raw) for batch in batches.values() for raw in batch]
