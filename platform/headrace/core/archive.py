"""Which records of `results` are kept, and as what."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import MAX_ID_CHARS, MAX_URL_CHARS
from headrace.contracts.states import State
from headrace.core.lines import line_of
from headrace.core.ports import Record
from headrace.core.usage import Usage, usage_of

_MAX_TEXT_CHARS = 1024


class _Batched(TypedDict):
    batch_id: str | None
    line: int | None


@dataclass(frozen=True, slots=True)
class FinalResult:
    """The final word on a request. `body` is the exact OpenAI response or error body.

    tenant: empty for nobody's. path: empty when the request named none. line: of a batch's file, from 0.
    webhook: a URL that the request named. claim_json: where the body is, when it was too large for a record:
    the headers that `contracts.claims.read` takes.
    """

    request_id: str
    state: State
    http_status: int
    model: str | None
    content_type: str
    body: bytes
    created_at_s: float
    expires_at_s: float
    tenant: str = ""
    path: str = ""
    attempt: int = 1
    batch_id: str | None = None
    line: int | None = None
    webhook: str | None = None
    claim_json: str | None = None

    @property
    def usage(self) -> Usage:
        """The tokens that it counts."""
        return usage_of(self.body)


class Archive(Protocol):
    """Where final results are kept."""

    async def add_many(self, rows: Sequence[FinalResult]) -> int:
        """Keep the results that are the first for their request, and all that follows from each, at once.

        Returns how many were kept.

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
        tenant=_text(record, h.TENANT_ID) or "",
        path=_text(record, h.API_PATH) or "",
        attempt=head.attempt,
        **_batched(record, request_id),
        webhook=_text(record, h.WEBHOOK, MAX_URL_CHARS),
        claim_json=_claim(record),
    )


def _batched(record: Record, request_id: str) -> _Batched:
    """Which line of which batch it is. Only ours: strangers may group their own requests as they like."""
    batch_id = _text(record, h.BATCH_ID)
    line = None if batch_id is None else line_of(batch_id, request_id)
    return {"batch_id": None, "line": None} if line is None else {"batch_id": batch_id, "line": line}


def _claim(record: Record) -> str | None:
    if h.DATA_REF not in record.headers:
        return None
    kept = (h.DATA_REF, h.DATA_SHA256, h.DATA_SIZE, h.CAUSATION_ID)
    return json.dumps({name: _text(record, name) for name in kept})


def _text(record: Record, name: str, max_chars: int = _MAX_TEXT_CHARS) -> str | None:
    value = record.headers.get(name)
    if not value:
        return None
    try:
        return _storable(name, value.decode(), max_chars)
    except UnicodeDecodeError:
        raise InvalidRequest(f"Header {name} is not UTF-8 text", param=name) from None


def _storable(name: str, text: str, max_chars: int) -> str:
    # PostgreSQL stores no NUL in text.
    if len(text) > max_chars or "\0" in text:
        raise InvalidRequest(f"Header {name} is over {max_chars} characters or holds a NUL", param=name)
    return text
