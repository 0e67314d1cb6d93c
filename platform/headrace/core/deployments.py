"""What is deployed, by the records of the topic `models`. Pure."""

from collections.abc import Iterable

from headrace.contracts.events import ModelDeployed
from headrace.core.ports import Record


def latest(records: Iterable[Record], model: str) -> ModelDeployed | None:
    """What is deployed under the name."""
    value = None
    for record in records:
        if record.key == model.encode():
            value = record.value
    return None if value is None else ModelDeployed.decode(value)


def is_crossed(records: Iterable[Record], model: str, offset: int) -> bool:
    """Whether the model was to go, or went, before what is written there. records: those not seen before."""
    return any(
        record.value is None or ModelDeployed.decode(record.value).retiring
        for record in records
        if record.key == model.encode() and record.place.offset < offset
    )
