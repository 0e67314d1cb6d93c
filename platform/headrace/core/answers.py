"""What is sent back on a request, and where to. Pure; workers and the dispatcher answer by the same rules."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, NamedTuple

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import HeadraceError
from headrace.contracts.replies import ReplyHead
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import Topics, stream_partition
from headrace.core.ports import Outgoing

SHORT_BYTES: Final = 10_000
"""Correlation headers and errors of this size fit everywhere."""


class Outcome(NamedTuple):
    """How a request ended: a final state and the exact body for the caller."""

    state: State
    value: bytes
    http_status: int = 200
    content_type: bytes = h.JSON


def failure(error: HeadraceError, state: State = State.FAILED) -> Outcome:
    """The outcome that tells the caller of `error`."""
    return Outcome(state, error.body(), error.kind.http_status)


@dataclass(frozen=True, slots=True)
class ReplyRules:
    """Which topics callers may name (patterns), and who we are: `source` as CloudEvents says it."""

    topics: Topics
    allowed: tuple[str, ...]
    source: str
    model: str


class ReplyTarget(NamedTuple):
    """One request's way back. `address` None means `results`; `refused` says why, if the caller named one."""

    head: RequestHead
    run: str
    address: ReplyAddress | None
    refused: str | None


def refusal(rules: ReplyRules, address: ReplyAddress, partitions: int, *, trusted: bool) -> str | None:
    """Why the answer may not go there; None when it may.

    partitions: how many the topic has, 0 when there is none such.
    trusted: the request is a gateway's own, so it may name a partition of `replies`.
    """
    topic = address.topic
    if topic == rules.topics.replies and address.partition is not None and trusted:
        pass
    elif (forbidden := _forbidden(rules.topics, rules.allowed, topic)) is not None:
        return forbidden
    if partitions == 0:
        return f"topic {topic} does not exist"
    if address.partition is not None and address.partition >= partitions:
        return f"topic {topic} has no partition {address.partition}"
    return None


@lru_cache(maxsize=1024)
def _forbidden(topics: Topics, allowed: tuple[str, ...], topic: str) -> str | None:
    if topics.is_internal(topic):
        return f"topic {topic} is internal"
    if not any(fnmatchcase(topic, pattern) for pattern in allowed):
        return f"topic {topic} is not allowed by HEADRACE_WORKER_REPLY_TOPICS"
    return None


def target(rules: ReplyRules, head: RequestHead, run: str, partitions: int, *, trusted: bool) -> ReplyTarget:
    """Where the answers of one run go; falls back to `results` when the caller's address cannot be used."""
    refused = None if head.reply is None else refusal(rules, head.reply, partitions, trusted=trusted)
    return ReplyTarget(head, run, head.reply if refused is None else None, refused)


def shorter(target: ReplyTarget) -> ReplyTarget | None:
    """The way back for an answer whose record was too large; None when nothing can be left out."""
    head, address = target.head, target.address
    if sum(len(value) for _, value in head.correlation) > SHORT_BYTES:
        return target._replace(head=head._replace(correlation=()))
    if address is not None:
        return to_results(target, f"topic {address.topic} takes no record as large as the shortest answer")
    return None


def to_results(target: ReplyTarget, why: str) -> ReplyTarget:
    """The way back when the caller's own cannot be used after all."""
    return target._replace(address=None, refused=why)


def chunk(rules: ReplyRules, target: ReplyTarget, value: bytes, sequence: int) -> Outgoing:
    """The record of one chunk, the `sequence`th from 0; for `streams` when nobody waits for it."""
    head = _head(rules, target, sequence)
    if target.address is None:
        return _streamed(rules, head, value)
    return _record(rules, target, head, value)


def final(rules: ReplyRules, target: ReplyTarget, outcome: Outcome, chunks: int = 0) -> Outgoing:
    """The record of the final word, after so many chunks."""
    head = _head(rules, target, chunks, outcome)
    return _record(rules, target, head, outcome.value)


def kept(rules: ReplyRules, target: ReplyTarget, outcome: Outcome, chunks: int = 0) -> Outgoing:
    """The same record for `results`, whoever else gets it."""
    headers = replies.write(_head(rules, target, chunks, outcome))
    return _kept(rules, target, headers, outcome.value)


def stream_end(rules: ReplyRules, target: ReplyTarget, outcome: Outcome, chunks: int) -> Outgoing:
    """The same record for `streams`, behind its chunks."""
    return _streamed(rules, _head(rules, target, chunks, outcome), outcome.value)


def _streamed(rules: ReplyRules, head: ReplyHead, value: bytes) -> Outgoing:
    key = head.causation_id.encode()
    return Outgoing(rules.topics.streams, value, key, replies.write(head), stream_partition(key))


def _head(rules: ReplyRules, target: ReplyTarget, sequence: int, outcome: Outcome | None = None) -> ReplyHead:
    head = target.head
    state, http_status, content_type = None, 200, h.JSON
    if outcome is not None:
        state, _, http_status, content_type = outcome
    return ReplyHead(
        head.id,
        state,
        rules.source,
        http_status,
        sequence,
        head.attempt,
        target.run,
        rules.model,
        head.correlation,
        content_type,
    )


def _record(rules: ReplyRules, target: ReplyTarget, head: ReplyHead, value: bytes) -> Outgoing:
    headers = replies.write(head)
    if target.address is not None:
        partition = target.address.partition
        key = None if partition is not None else head.causation_id.encode()
        return Outgoing(target.address.topic, value, key, headers, partition)
    return _kept(rules, target, headers, value)


def _kept(rules: ReplyRules, target: ReplyTarget, headers: h.Headers, value: bytes) -> Outgoing:
    """A final record for `results`, which says by itself whose it is and who is to be told."""
    head = target.head
    if target.refused is not None:
        headers.append((h.REPLY_REFUSED, target.refused.encode()))
    for name, said in (
        (h.TENANT_ID, head.tenant),
        (h.BATCH_ID, head.batch_id),
        (h.WEBHOOK, head.webhook),
        (h.API_PATH, head.path),
    ):
        if said:
            headers.append((name, said.encode()))
    return Outgoing(rules.topics.results, value, head.id.encode(), headers)
