"""Jobs: the durable state of requests whose answers are kept. Pure."""

from dataclasses import dataclass
from typing import Final

import orjson

from headrace.contracts import headers as h
from headrace.contracts import ids, requests
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.events import ModelDeployed
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.core.deadlines import expires_at_s
from headrace.core.identity import Trust, believed
from headrace.core.letters import full
from headrace.core.ports import Record

BODY_KEPT: Final = frozenset({requests.RESPONSES})
"""Paths whose callers may ask for the body of their request again."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request whose answer is kept.

    state: `queued` until there is a final one; who runs what is in the workers' heartbeats.
    topic, partition, offset: where it waits; None while only its result is known.
    request: its body, for paths of `BODY_KEPT`. deadline_s, …_at_s: Unix seconds. expires_at_s: until when it
    is kept.
    """

    id: str
    tenant: str
    model: str
    path: str
    lane: str
    state: State
    attempt: int
    stream: bool
    created_at_s: float
    expires_at_s: float
    deadline_s: float | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    http_status: int | None = None
    finished_at_s: float | None = None
    request: bytes | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Which jobs of a tenant, and how many. after: id of the job that the page follows."""

    limit: int
    after: str | None = None
    newest_first: bool = True
    states: frozenset[State] = frozenset()
    model: str | None = None


def queued(
    record: Record, deployed: ModelDeployed, lane: Lane, trust: Trust, retention_s: float
) -> Job | None:
    """The job that a request record is; None for one that somebody waits for, a batch's line, or nonsense."""
    if is_waited_for(record.headers):
        return None
    trusted = trust.judge(record.headers, deployed.slug)
    try:
        head = believed(requests.read(record.headers, default_id=full(record.place)), trusted=trusted)
    except InvalidRequest:
        return None  # a worker dead-letters it
    if not head.is_kept or head.batch_id is not None:
        return None
    path = head.path or deployed.manifest.serves[0]
    deadline_s = expires_at_s(record, head, deployed)
    return Job(
        id=head.id,
        tenant=head.tenant or "",
        model=deployed.name,
        path=path,
        lane=lane.value,
        state=State.QUEUED,
        attempt=head.attempt,
        stream=is_stream(record.value or b""),
        created_at_s=ids.made_at_s(head.id) or record.timestamp_ms / 1000,
        expires_at_s=deadline_s + retention_s,
        deadline_s=deadline_s,
        topic=record.place.topic,
        partition=record.place.partition,
        offset=record.place.offset,
        request=record.value if path in BODY_KEPT else None,
    )


def is_waited_for(headers: dict[str, bytes]) -> bool:
    """Whether somebody waits for the answer and it is not kept: seen at once, for most requests are so."""
    return h.DURABLE not in headers and h.first(headers, h.REPLY_TOPIC_NAMES) is not None


def is_stream(body: bytes) -> bool:
    """Whether a request's body asks for a stream."""
    if b'"stream"' not in body:
        return False
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and document.get("stream") is True
