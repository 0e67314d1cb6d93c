"""Where answers go, and how they are made durable."""

import asyncio
import logging
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import BodyTooLarge, Unavailable
from headrace.contracts.replies import ReplyHead
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.topics import Topics
from headrace.core.ports import Outgoing, Publisher
from headrace.worker.execution import Outcome, failure

_log = logging.getLogger(__name__)

_RETRY_S: Final = (0.1, 0.5, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class ReplyRules:
    """Which topics callers may name, and who we are."""

    topics: Topics
    allowed: tuple[str, ...]
    source: str
    model: str


class Replies:
    """Publishes chunks and final answers."""

    def __init__(self, publisher: Publisher, rules: ReplyRules) -> None:
        self._publisher = publisher
        self._rules = rules

    async def open(self, head: RequestHead, run: str) -> "Reply":
        """The way back for one request; falls back to `results` when the caller's address cannot be used."""
        refused = None if head.reply is None else await self._refusal(head.reply)
        if refused is not None:
            _log.warning("request %s: reply goes to results: %s", head.id, refused)
        address = head.reply if head.reply is not None and refused is None else None
        return Reply(self._publisher, self._rules, ReplyTarget(head, run, address, refused))

    async def _refusal(self, address: ReplyAddress) -> str | None:
        topic = address.topic
        gateway = topic == self._rules.topics.replies and address.partition is not None
        if not gateway:
            if self._rules.topics.is_internal(topic):
                return f"topic {topic} is internal"
            if not any(fnmatchcase(topic, pattern) for pattern in self._rules.allowed):
                return f"topic {topic} is not allowed by HEADRACE_WORKER_REPLY_TOPICS"
        count = await self._publisher.partitions(topic)
        if count == 0:
            return f"topic {topic} does not exist"
        if address.partition is not None and address.partition >= count:
            return f"topic {topic} has no partition {address.partition}"
        return None


@dataclass(frozen=True, slots=True)
class ReplyTarget:
    """One request's address. `address` None means `results`; `refused` says why."""

    head: RequestHead
    run: str
    address: ReplyAddress | None
    refused: str | None


class Reply:
    """The way back for one request."""

    def __init__(self, publisher: Publisher, rules: ReplyRules, target: ReplyTarget) -> None:
        self._publisher = publisher
        self._rules = rules
        self._target = target
        self._chunks = 0

    async def chunk(self, value: bytes) -> None:
        """Send a chunk on its way. `results` gets no chunks: its readers want the whole."""
        if self._target.address is None:
            return
        head = self._head(None, 200)
        self._chunks += 1
        try:
            await self._publisher.send(self._outgoing(head, value))
        except Unavailable:
            # The final record carries the whole answer, so a lost chunk is a gap that closes.
            _log.warning("request %s: chunk %d not sent", self._target.head.id, head.sequence)

    async def finish(self, outcome: Outcome) -> None:
        """Send the final answer and wait until the broker has it, however long that takes."""
        attempt = 0
        while True:
            try:
                receipt = await self._publisher.send(
                    self._outgoing(self._head(outcome, outcome.http_status), outcome.value)
                )
                await receipt
            except BodyTooLarge as error:
                outcome = failure(error)
            except Unavailable as error:
                _log.warning("request %s: answer not confirmed: %s", self._target.head.id, error)
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1
            else:
                return

    def _head(self, outcome: Outcome | None, http_status: int) -> ReplyHead:
        head = self._target.head
        return ReplyHead(
            causation_id=head.id,
            state=None if outcome is None else outcome.state,
            source=self._rules.source,
            http_status=http_status,
            sequence=self._chunks,
            attempt=head.attempt,
            run=self._target.run,
            model=self._rules.model,
            correlation=head.correlation,
        )

    def _outgoing(self, head: ReplyHead, value: bytes) -> Outgoing:
        target = self._target
        headers = replies.write(head)
        if target.address is not None:
            partition = target.address.partition
            key = None if partition is not None else head.causation_id.encode()
            return Outgoing(target.address.topic, value, key, headers, partition)
        if target.refused is not None:
            headers.append((h.REPLY_REFUSED, target.refused.encode()))
        return Outgoing(self._rules.topics.results, value, head.causation_id.encode(), headers)
