"""What the dispatcher does with a request that no worker will have: answers it, or sets it aside."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from headrace.contracts.errors import BodyTooLarge, HeadraceError, NotPermitted, Unavailable, UnknownModel
from headrace.contracts.requests import RequestHead
from headrace.contracts.topics import Topics
from headrace.core import answers
from headrace.core.answers import Outcome, ReplyRules, ReplyTarget
from headrace.core.letters import letter, versions
from headrace.core.ports import Outgoing, Publisher, Record

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.5
RUN: Final = "-1:dispatcher"
"""As a run of a worker in no generation: any worker's is newer."""


class Answering:
    """Publishes answers and dead letters; each is durable when it returns, however long Kafka is away."""

    def __init__(self, publisher: Publisher, topics: Topics, reply_topics: tuple[str, ...]) -> None:
        self._publisher = publisher
        self._topics = topics
        self._reply_topics = reply_topics

    async def answer(self, head: RequestHead, model: str, outcome: Outcome, *, trusted: bool) -> None:
        """The final word on a request, where it asked for it, or in `results` when that cannot be."""
        rules = ReplyRules(self._topics, self._reply_topics, "/dispatcher", model)
        count = 0 if head.reply is None else await self.partitions(head.reply.topic)
        target: ReplyTarget | None = answers.target(rules, head, RUN, count, trusted=trusted)
        while target is not None:
            try:
                await self.publish(answers.final(rules, target, outcome))
            except BodyTooLarge:
                target = answers.shorter(target)
            except (UnknownModel, NotPermitted) as error:
                target = answers.to_results(target, error.message)
            else:
                _log.info("request %s: %s", head.id, outcome.state)
                return
        _log.error("request %s: no answer fits", head.id)

    async def set_aside(self, record: Record, error: HeadraceError, key: bytes | None = None) -> None:
        """Dead-letter a record: its bytes, where it came from and why."""
        _log.warning("record at %s goes to dead-letters: %s", record.place, error)
        *longer, bare = versions(letter(self._topics, record, error, key))
        for each in longer:
            with suppress(BodyTooLarge):
                await self.publish(each)
                return
        await self.publish(bare)

    async def publish(self, sent: Outgoing) -> None:
        """Returns when the broker has it.

        Raises:
            BodyTooLarge: Kafka will never take it.
            UnknownModel: the topic is gone.
            NotPermitted: the topic is not ours, and Kafka's permissions keep us from it.
        """
        while True:
            try:
                await (await self._publisher.send(sent))
            except Unavailable as error:
                await _wait(error)
                if self._topics.is_shared(sent.topic):
                    continue
                if isinstance(error, NotPermitted) and not self._topics.is_internal(sent.topic):
                    raise NotPermitted(f"topic {sent.topic} may not be written to") from None
                if not await self.partitions(sent.topic):
                    raise UnknownModel(f"Topic {sent.topic} is gone") from None
            else:
                return

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 when there is none such."""
        while True:
            try:
                return await self._publisher.partitions(topic)
            except Unavailable as error:
                await _wait(error)


async def _wait(error: Unavailable) -> None:
    _log.warning("waiting for Kafka: %s", error)
    await asyncio.sleep(_RETRY_S)
