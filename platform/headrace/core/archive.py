"""Which records of `results` are kept, and as what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import MAX_ID_CHARS
from headrace.contracts.states import State
from headrace.core.ports import Record

_MAX_TEXT_CHARS = 1024


@dataclass(frozen=True, slots=True)
class FinalResult:
    """The final word on a request. `body` is the exact OpenAI response or error body."""

    request_id: str
    state: State
    http_status: int
    model: str | None
    content_type: str
    body: bytes
    created_at_s: float
    expires_at_s: float


class Archive(Protocol):
    """Where final results are kept."""

    async def add_many(self, rows: Sequence[FinalResult]) -> int:
        """Keep the results that are the first for their request; returns how many were.

        Raises:
            InvalidRequest: the archive refuses a value of some row; none was kept.
            Unavailable: the archive does not serve; the same rows may be added again.
        """
        ...

    async def purge(self, now_s: float) -> int:
        """Remove some results that have expired; returns how many. Repeat until it returns 0."""
        ...


def final_result(record: Record, retention_s: float) -> FinalResult:
    """The result that a record of `results` holds. Pure; the record's own time starts its retention.

    Raises:
        InvalidRequest: it holds none that can be kept.
    """
    head = replies.read(record.headers)
    if head.state is None:
        raise InvalidRequest("A chunk is no final result")
    if record.value is None:
        raise InvalidRequest("A result needs a body")
    if not 100 <= head.http_status <= 599:
        raise InvalidRequest(f"Header {h.HTTP_STATUS} is no HTTP status", param=h.HTTP_STATUS)
    request_id = _storable(h.CAUSATION_ID, head.causation_id, MAX_ID_CHARS)
    if not request_id:
        raise InvalidRequest(f"Header {h.CAUSATION_ID} is empty", param=h.CAUSATION_ID)
    created_at_s = record.timestamp_ms / 1000
    return FinalResult(
        request_id=request_id,
        state=head.state,
        http_status=head.http_status,
        model=_text(record, h.MODEL),
        content_type=_text(record, h.CONTENT_TYPE) or h.JSON.decode(),
        body=record.value,
        created_at_s=created_at_s,
        expires_at_s=created_at_s + retention_s,
    )


def _text(record: Record, name: str) -> str | None:
    value = record.headers.get(name)
    if not value:
        return None
    try:
        return _storable(name, value.decode(), _MAX_TEXT_CHARS)
    except UnicodeDecodeError:
        raise InvalidRequest(f"Header {name} is not UTF-8 text", param=name) from None


def _storable(name: str, text: str, max_chars: int) -> str:
    # PostgreSQL stores no NUL in text.
    if len(text) > max_chars or "\0" in text:
        raise InvalidRequest(f"Header {name} is over {max_chars} characters or holds a NUL", param=name)
    return text
