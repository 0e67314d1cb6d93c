"""Every header of request and reply records: name, meaning, form, other names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from headrace.contracts import headers as h
from headrace.contracts import replies, requests

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "string", "pattern": "^[0-9]+$"}
_SHA256: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TIME: Final = {"type": "string", "format": "date-time"}
_FOUR_BYTES: Final = "Decimal digits, or the four big-endian bytes that Spring and SmallRye send."


@dataclass(frozen=True, slots=True)
class HeaderRow:
    """One header. `names` holds the one we write first, then those we also read."""

    names: tuple[str, ...]
    meaning: str
    form: dict[str, Any]
    always: bool = False


REQUEST_HEADERS: Final = (
    HeaderRow((h.ID,), "Names the request. Default: topic-partition-offset.", {**_TEXT, "maxLength": 256}),
    HeaderRow((h.SOURCE,), "Who asks. With the id, what makes a request one and the same.", _TEXT),
    HeaderRow((h.SPEC_VERSION,), "Version of CloudEvents.", {"const": "1.0"}),
    HeaderRow((h.TIME,), "When it was made; the record's own time is what counts.", _TIME),
    HeaderRow((h.TYPE,), "Kind of event.", {"const": requests.TYPE}),
    HeaderRow((h.CONTENT_TYPE,), "Of the value.", {"const": h.JSON.decode()}),
    HeaderRow(
        (h.API_PATH,),
        "Which HTTP path the body is for. Default: the first that the model serves.",
        {"enum": list(requests.PATHS)},
    ),
    HeaderRow((h.ACCEPT,), "Forms of the answer that the caller takes, as HTTP's `Accept`.", _TEXT),
    HeaderRow(
        h.REPLY_TOPIC_NAMES,
        "Topic for the answer; it must match HEADRACE_WORKER_REPLY_TOPICS. Default: `results`.",
        _TEXT,
    ),
    HeaderRow(h.REPLY_PARTITION_NAMES, f"Partition of that topic. {_FOUR_BYTES}", _TEXT),
    HeaderRow(
        h.CORRELATION_NAMES,
        "Comes back byte for byte, under the name it came with.",
        _TEXT,
    ),
    HeaderRow((h.EXPIRY_TIME,), "Deadline, RFC 3339 with a time zone. Default: the model's own.", _TIME),
    HeaderRow((h.TENANT_ID,), "On whose account.", _TEXT),
    HeaderRow((h.BATCH_ID,), "Batch it belongs to.", _TEXT),
    HeaderRow((h.WEBHOOK,), "URL that is told how it ended; only with a gateway's signature.", _TEXT),
    HeaderRow(
        (h.DURABLE,),
        "Beside a reply topic: the answer goes to `results` as well, and first.",
        {"const": "true"},
    ),
    HeaderRow((h.ATTEMPT,), "Which attempt this is, from 1.", _NUMBER),
    HeaderRow((h.SIGNATURE,), "A gateway's word for id, tenant, model and deadline.", _TEXT),
    HeaderRow((h.REPLAY_OF,), "The dead letter it is sent from once more.", _TEXT),
    HeaderRow((h.TRACE_PARENT,), "W3C trace context.", _TEXT),
    HeaderRow((h.TRACE_STATE,), "W3C trace context.", _TEXT),
)

REPLY_HEADERS: Final = (
    HeaderRow((h.SPEC_VERSION,), "Version of CloudEvents.", {"const": "1.0"}, always=True),
    HeaderRow((h.ID,), "Names this record: request, run and place in the stream.", _TEXT, always=True),
    HeaderRow((h.SOURCE,), "The worker.", _TEXT, always=True),
    HeaderRow(
        (h.TYPE,),
        "A chunk, or how the request ended.",
        {"enum": [replies.CHUNK_TYPE, *replies.TYPES.values()]},
        always=True,
    ),
    HeaderRow((h.CONTENT_TYPE,), "Of the value.", {"const": h.JSON.decode()}, always=True),
    HeaderRow((h.CAUSATION_ID,), "Id of the request.", _TEXT, always=True),
    HeaderRow(
        h.CORRELATION_NAMES,
        "As the request had it, every one that came.",
        _TEXT,
    ),
    HeaderRow((h.HTTP_STATUS,), "Status the answer has over HTTP.", _NUMBER, always=True),
    HeaderRow(
        (h.SEQUENCE,),
        "A chunk's place from 0, zero-padded; on the final record the number of chunks before it.",
        _NUMBER,
        always=True,
    ),
    HeaderRow((h.FINAL,), "Whether nothing comes after it.", {"enum": ["true", "false"]}, always=True),
    HeaderRow((h.ATTEMPT,), "Attempt of the request.", _NUMBER, always=True),
    HeaderRow((h.MODEL,), "The public name of the model that answered.", _TEXT, always=True),
    HeaderRow((h.RUN,), "Tells runs of one request apart; never mix their chunks.", _TEXT, always=True),
    HeaderRow(
        (h.DATA_REF,),
        "Where the result lies that is too large for Kafka, `s3://BUCKET/KEY`; the value only says so.",
        _TEXT,
    ),
    HeaderRow((h.DATA_SHA256,), f"SHA-256 of what lies at {h.DATA_REF}, in hex.", _SHA256),
    HeaderRow((h.DATA_SIZE,), f"Bytes that lie at {h.DATA_REF}.", _NUMBER),
    HeaderRow((h.TENANT_ID,), "In `results`: on whose account.", _TEXT),
    HeaderRow((h.BATCH_ID,), "In `results`: the batch it belongs to.", _TEXT),
    HeaderRow((h.WEBHOOK,), "In `results`: the URL that the request named.", _TEXT),
    HeaderRow((h.API_PATH,), "In `results`: the path of the request.", _TEXT),
    HeaderRow((h.REPLY_REFUSED,), "Why it is here and not in the topic that was asked for.", _TEXT),
)

DEAD_LETTER_HEADERS: Final = (
    HeaderRow((h.ORIGIN_TOPIC,), "Topic it was read from.", _TEXT, always=True),
    HeaderRow((h.ORIGIN_PARTITION,), "Its partition there.", _NUMBER, always=True),
    HeaderRow((h.ORIGIN_OFFSET,), "Its offset there.", _NUMBER, always=True),
    HeaderRow((h.ERROR_CODE,), "Code of the error table.", _TEXT, always=True),
    HeaderRow((h.ERROR_MESSAGE,), "What was wrong, for a person.", _TEXT, always=True),
)

RETRY_HEADERS: Final = (
    HeaderRow((h.NOT_BEFORE,), "When it may go back to its lane.", _TIME, always=True),
    *DEAD_LETTER_HEADERS,
)


def header_schema(rows: Iterable[HeaderRow]) -> dict[str, Any]:
    """A JSON Schema object of the headers, under every name."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for row in rows:
        written, *others = row.names
        properties[written] = {**row.form, "description": row.meaning}
        for other in others:
            properties[other] = {**row.form, "description": f"Alias of {written}. {row.meaning}"}
        if row.always:
            required.append(written)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": True}


def header_table(title: str, rows: Iterable[HeaderRow]) -> str:
    """The headers as a Markdown table."""
    lines = [f"## {title}", "", "| header | also read | always there | meaning |", "|---|---|---|---|"]
    for row in rows:
        written, *others = (f"`{name}`" for name in row.names)
        lines.append(f"| {written} | {', '.join(others)} | {'yes' if row.always else ''} | {row.meaning} |")
    return "\n".join(lines) + "\n"


def header_tables() -> str:
    """All tables, as one Markdown page."""
    return "\n".join(
        (
            "# Headers\n",
            "Values are UTF-8 text. No header of a request is required. Generated by `headrace schemas`.\n",
            header_table("Request records", REQUEST_HEADERS),
            header_table("Reply records", REPLY_HEADERS),
            header_table("Dead letters: the original headers and these", DEAD_LETTER_HEADERS),
            header_table("Retries: the original headers and these", RETRY_HEADERS),
        )
    )
