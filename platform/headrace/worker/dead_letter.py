"""A record that cannot be served: the original bytes and headers, where it came from, and why it failed."""

from headrace.contracts import headers as h
from headrace.contracts.topics import Topics
from headrace.core.ports import Outgoing
from headrace.worker.intake import Refusal


def letter(topics: Topics, refusal: Refusal) -> Outgoing:
    """The dead letter for a refused record."""
    record, error = refusal.record, refusal.error
    headers: h.Headers = list(record.headers.items())
    headers += [
        (h.ORIGIN_TOPIC, record.place.topic.encode()),
        (h.ORIGIN_PARTITION, str(record.place.partition).encode()),
        (h.ORIGIN_OFFSET, str(record.place.offset).encode()),
        (h.ERROR_CODE, error.code.encode()),
        (h.ERROR_MESSAGE, error.message.encode()),
    ]
    # Without a value and a key the record would be a tombstone for nothing, which Kafka refuses.
    return Outgoing(topics.dead_letters, record.value or b"", refusal.head.id.encode(), headers)
