"""Dead letters: the original bytes and headers, where they came from, and why they were not served."""

from headrace.contracts import headers as h
from headrace.contracts.errors import HeadraceError
from headrace.contracts.topics import Topics
from headrace.core.ports import Outgoing, Record


def letter(topics: Topics, record: Record, error: HeadraceError, key: bytes | None = None) -> Outgoing:
    """The dead letter for `record`, under `key` or else the record's own."""
    return Outgoing(
        topics.dead_letters,
        # Without a value it would be a tombstone, which a topic that is not compacted has no use for.
        record.value or b"",
        key or record.key,
        [*record.headers.items(), *_why(record, error)],
    )


def without_value(sent: Outgoing) -> Outgoing:
    """The same letter for a value so large that the headers we add no longer fit beside it.

    The record stays where `ce_origintopic` says until that topic's retention is over.
    """
    return sent._replace(value=b"")


def _why(record: Record, error: HeadraceError) -> h.Headers:
    return [
        (h.ORIGIN_TOPIC, record.place.topic.encode()),
        (h.ORIGIN_PARTITION, str(record.place.partition).encode()),
        (h.ORIGIN_OFFSET, str(record.place.offset).encode()),
        (h.ERROR_CODE, error.code.encode()),
        (h.ERROR_MESSAGE, error.message.encode()),
    ]
