"""A request's next attempt: the same bytes, once more, after a while. Pure.

The retry record goes to one of the retry topics; the dispatcher puts it back on its lane when it is due. It
carries everything that the first record had by its place: its id, its deadline and where it came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts import requests
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import RequestHead
from headrace.contracts.topics import RETRY_DELAYS_S, Topics
from headrace.core.ports import Outgoing, Record

DEFAULT_DELAYS: Final = ("5s", "30s", "5m")
_REWRITTEN: Final = frozenset(
    {h.ID, h.ATTEMPT, h.EXPIRY_TIME, h.NOT_BEFORE}
    | {h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET, h.ERROR_CODE, h.ERROR_MESSAGE}
)


@dataclass(frozen=True, slots=True)
class Retry:
    """Why and when a request is tried again.

    code, message: the error of this attempt.
    expires_at_s: the request's deadline, which no retry passes.
    """

    head: RequestHead
    code: str
    message: str
    expires_at_s: float
    delay: str


def delay_for(attempt: int, max_attempts: int, left_s: float, delays: Sequence[str]) -> str | None:
    """The delay before the next attempt, a key of `RETRY_DELAYS_S`; None when there is to be none.

    attempt: the one that failed, from 1. left_s: time to the deadline.
    """
    if attempt >= max_attempts or not delays:
        return None
    delay = delays[min(attempt, len(delays)) - 1]
    return delay if RETRY_DELAYS_S[delay] < left_s else None


def retry(topics: Topics, record: Record, why: Retry, now_s: float) -> Outgoing:
    """The retry record for `record`; `why.head` is the next attempt's head."""
    due_s = now_s + RETRY_DELAYS_S[why.delay]
    kept = [(name, value) for name, value in record.headers.items() if name not in _REWRITTEN]
    origin = record.headers.get(h.ORIGIN_TOPIC) or record.place.topic.encode()
    expiry = record.headers.get(h.EXPIRY_TIME)
    signed = (h.EXPIRY_TIME, expiry) if expiry and h.SIGNATURE in record.headers else None
    rewritten: h.Headers = [
        (h.ID, why.head.id.encode()),
        (h.ATTEMPT, str(why.head.attempt).encode()),
        # A gateway's signature covers these very bytes.
        signed or requests.expiry(why.expires_at_s),
        (h.NOT_BEFORE, datetime.fromtimestamp(due_s, UTC).isoformat().encode()),
        (h.ORIGIN_TOPIC, origin),
        (h.ORIGIN_PARTITION, str(record.place.partition).encode()),
        (h.ORIGIN_OFFSET, str(record.place.offset).encode()),
        (h.ERROR_CODE, why.code.encode()),
        (h.ERROR_MESSAGE, why.message.encode()),
    ]
    return Outgoing(topics.retries(why.delay), record.value, record.key, kept + rewritten)


def due_at_s(record: Record) -> float:
    """When a retry record may go back to its lane, in Unix seconds.

    Raises:
        InvalidRequest: it does not say.
    """
    at_s = requests.time_of(record.headers, h.NOT_BEFORE)
    if at_s is None:
        raise InvalidRequest(f"Header {h.NOT_BEFORE} is missing", param=h.NOT_BEFORE)
    return at_s


def back_to_lane(topics: Topics, record: Record) -> Outgoing:
    """The request record that a retry record becomes when it is due.

    Raises:
        InvalidRequest: it does not name a request topic as its origin.
    """
    origin = record.headers.get(h.ORIGIN_TOPIC, b"").decode(errors="replace")
    if topics.parse_requests(origin) is None:
        raise InvalidRequest(f"Header {h.ORIGIN_TOPIC} is {origin!r}, which is no request topic")
    headers = [(name, value) for name, value in record.headers.items() if name != h.NOT_BEFORE]
    return Outgoing(origin, record.value, record.key, headers)


def next_attempt(head: RequestHead) -> RequestHead:
    """The head of the attempt after this one."""
    return head._replace(attempt=head.attempt + 1)
