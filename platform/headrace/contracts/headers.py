"""Header names: CloudEvents 1.0 in binary mode, and the reply headers other frameworks already send.

Values are UTF-8 text, except the two 4-byte big-endian partition numbers of Spring and SmallRye.
Sources: cloudevents/spec (Kafka binding), spring-kafka `KafkaHeaders`, SmallRye `KafkaRequestReply`,
FastStream's Kafka parser.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

Header: TypeAlias = tuple[str, bytes]
Headers: TypeAlias = list[Header]

SPEC_VERSION: Final = "ce_specversion"
ID: Final = "ce_id"
SOURCE: Final = "ce_source"
TYPE: Final = "ce_type"
TIME: Final = "ce_time"
CONTENT_TYPE: Final = "content-type"
API_PATH: Final = "ce_apipath"
ACCEPT: Final = "ce_accept"
REPLY_TOPIC: Final = "ce_replytopic"
REPLY_PARTITION: Final = "ce_replypartition"
CORRELATION_ID: Final = "ce_correlationid"
CAUSATION_ID: Final = "ce_causationid"
EXPIRY_TIME: Final = "ce_expirytime"
TENANT_ID: Final = "ce_tenantid"
BATCH_ID: Final = "ce_batchid"
WEBHOOK: Final = "ce_webhook"
"""A URL that is told how the request ended; only a gateway may say it."""
DURABLE: Final = "ce_durable"
"""`true` beside a reply address: the answer goes to `results` first, and there as well."""
ATTEMPT: Final = "ce_attempt"
DATA_REF: Final = "ce_dataref"
DATA_SHA256: Final = "ce_datasha256"
"""With `ce_dataref`: hex digest of the bytes that lie there."""
DATA_SIZE: Final = "ce_datasize"
"""With `ce_dataref`: how many bytes lie there."""
HTTP_STATUS: Final = "ce_httpstatus"
SEQUENCE: Final = "ce_sequence"
FINAL: Final = "ce_final"
RUN: Final = "ce_run"
MODEL: Final = "ce_subject"
TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"

SIGNATURE: Final = "ce_signature"
"""A gateway's word for tenant, id, model and deadline; without it they are claims."""
NOT_BEFORE: Final = "ce_notbefore"
"""On a retry: when it may go back to its lane."""

ORIGIN_TOPIC: Final = "ce_origintopic"
ORIGIN_PARTITION: Final = "ce_originpartition"
ORIGIN_OFFSET: Final = "ce_originoffset"
ERROR_CODE: Final = "ce_errorcode"
ERROR_MESSAGE: Final = "ce_errormessage"
REPLAY_OF: Final = "ce_replayof"
"""On a request that was replayed, and on the note that it was: the place of its dead letter."""
REPLY_REFUSED: Final = "ce_replyrefused"
"""On a result: why it is in `results` and not in the topic that the caller asked for."""

REPLY_TOPIC_NAMES: Final = (REPLY_TOPIC, "reply_to", "kafka_replyTopic", "REPLY_TOPIC")
REPLY_PARTITION_NAMES: Final = (REPLY_PARTITION, "kafka_replyPartition", "REPLY_PARTITION")
CORRELATION_NAMES: Final = (
    CORRELATION_ID,
    "correlation_id",
    "kafka_correlationId",
    "REPLY_CORRELATION_ID",
)
"""In order of precedence. Every one that came in goes back out, byte for byte, under its own name."""

JSON: Final = b"application/json"


def as_dict(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, bytes]:
    """Headers by name; of a repeated name the last one, and none for null."""
    return {name: value for name, value in headers if value is not None}


def first(headers: dict[str, bytes], names: Iterable[str]) -> bytes | None:
    """The value of the first of `names` that is there and not empty."""
    for name in names:
        if value := headers.get(name):
            return value
    return None
