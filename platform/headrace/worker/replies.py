"""Answers made durable: the shell round `core.answers`."""

import asyncio
import logging
from typing import Final

from headrace.contracts.errors import BodyTooLarge, Unavailable
from headrace.contracts.requests import RequestHead
from headrace.core import answers
from headrace.core.answers import Outcome, ReplyRules, ReplyTarget, failure
from headrace.core.ports import Publisher

_log = logging.getLogger(__name__)

_RETRY_S: Final = (0.1, 0.5, 2.0, 5.0)


class Replies:
    """Opens the way back for each request."""

    def __init__(self, publisher: Publisher, rules: ReplyRules) -> None:
        self._publisher = publisher
        self._rules = rules

    async def open(self, head: RequestHead, run: str, *, trusted: bool = True) -> "Reply":
        """The way back for one request; falls back to `results` when the caller's address cannot be used."""
        count = 0 if head.reply is None else await self._publisher.partitions(head.reply.topic)
        target = answers.target(self._rules, head, run, count, trusted=trusted)
        if target.refused is not None:
            _log.warning("request %s: reply goes to results: %s", head.id, target.refused)
        return Reply(self._publisher, self._rules, target)


class Reply:
    """The way back for one request."""

    def __init__(self, publisher: Publisher, rules: ReplyRules, target: ReplyTarget) -> None:
        self._publisher = publisher
        self._rules = rules
        self._target = target
        self._chunks = 0

    @property
    def chunks(self) -> int:
        """How many were sent."""
        return self._chunks

    async def chunk(self, value: bytes) -> None:
        """Send a chunk on its way. `results` gets no chunks: its readers want the whole."""
        if self._target.address is None:
            return
        sequence = self._chunks
        self._chunks += 1
        try:
            await self._publisher.send(answers.chunk(self._rules, self._target, value, sequence))
        except Unavailable:
            # The final record carries the whole answer, so a lost chunk is a gap that closes.
            _log.warning("request %s: chunk %d not sent", self._target.head.id, sequence)

    async def finish(self, outcome: Outcome) -> None:
        """Send the final answer and wait until the broker has it, however long that takes."""
        attempt = 0
        while True:
            try:
                record = answers.final(self._rules, self._target, outcome, self._chunks)
                await (await self._publisher.send(record))
            except BodyTooLarge as error:
                outcome = failure(error)
            except Unavailable as error:
                _log.warning("request %s: answer not confirmed: %s", self._target.head.id, error)
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1
            else:
                return
