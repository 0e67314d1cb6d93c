"""Answers made durable: the shell round `core.answers`."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from headrace.contracts import claims
from headrace.contracts.claims import Claim, Made
from headrace.contracts.errors import BodyTooLarge, HeadraceError, NotPermitted, Unavailable
from headrace.contracts.requests import RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import slug
from headrace.core import answers
from headrace.core.answers import Outcome, ReplyRules, ReplyTarget, failure
from headrace.core.ports import Publisher
from headrace.worker.claims import NOWHERE, Keeper

_log = logging.getLogger(__name__)

_RETRY_S: Final = (0.1, 0.5, 2.0, 5.0)
_RESULTS: Final = frozenset({State.COMPLETED, State.INCOMPLETE})


class Replies:
    """Opens the way back for each request. `keeper`: where results go that Kafka does not take."""

    def __init__(self, publisher: Publisher, rules: ReplyRules, keeper: Keeper = NOWHERE) -> None:
        self._publisher = publisher
        self._rules = rules
        self._keeper = keeper

    async def open(self, head: RequestHead, run: str, *, trusted: bool = True) -> "Reply":
        """The way back for one request; falls back to `results` when the caller's address cannot be used."""
        count = 0 if head.reply is None else await self._publisher.partitions(head.reply.topic)
        target = answers.target(self._rules, head, run, count, trusted=trusted)
        if target.refused is not None:
            _log.warning("request %s: reply goes to results: %s", head.id, target.refused)
        return Reply(self._publisher, self._rules, self._keeper, target)


class Reply:
    """The way back for one request."""

    def __init__(self, publisher: Publisher, rules: ReplyRules, keeper: Keeper, target: ReplyTarget) -> None:
        self._publisher = publisher
        self._rules = rules
        self._keeper = keeper
        self._target = target
        self._chunks = 0

    @property
    def chunks(self) -> int:
        """How many were sent."""
        return self._chunks

    async def chunk(self, value: bytes) -> None:
        """Send a chunk on its way: to who waits for it, or to `streams`, where it may be read again."""
        sequence = self._chunks
        self._chunks += 1
        try:
            await self._publisher.send(answers.chunk(self._rules, self._target, value, sequence))
        except Unavailable:
            # The final record carries the whole answer, so a lost chunk is a gap that closes.
            _log.warning("request %s: chunk %d not sent", self._target.head.id, sequence)

    async def finish(self, outcome: Outcome) -> None:
        """Send the final answer and wait until the broker has it, however long that takes.

        A result that is too large for a record goes to the bucket, and a reference to the caller.
        """
        if self._target.address is not None and self._target.head.durable:
            kept = self._target._replace(address=None)
            await Reply(self._publisher, self._rules, self._keeper, kept).finish(outcome)
        sent = await self._send(outcome)
        if self._target.address is None and self._chunks:
            await self._end_stream(sent)

    async def _end_stream(self, outcome: Outcome) -> None:
        """Tell readers of the stream at once; those who miss it find the answer in the archive."""
        end = answers.stream_end(self._rules, self._target, outcome, self._chunks)
        with suppress(Unavailable, BodyTooLarge):
            await self._publisher.send(end)

    async def _send(self, outcome: Outcome) -> Outcome:
        """Returns what the broker has in the end."""
        attempt = 0
        claim: Claim | None = None
        while True:
            try:
                record = answers.final(self._rules, self._target, outcome, self._chunks)
                if claim is not None:
                    record = record._replace(headers=[*(record.headers or ()), *claims.write(claim)])
                await (await self._publisher.send(record))
            except BodyTooLarge as error:
                # The producer refuses what is clearly too large at once: nothing was on the way.
                outcome, claim = await self._shorter(outcome, claim, error)
            except Unavailable as error:
                _log.warning("request %s: answer not confirmed: %s", self._target.head.id, error)
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1
                await self._give_the_caller_up(error)
            else:
                return outcome

    async def _give_the_caller_up(self, error: Unavailable) -> None:
        """An address that can never be written to must not keep a worker's slot for ever."""
        address = self._target.address
        if address is None or self._rules.topics.is_shared(address.topic):
            return
        if isinstance(error, NotPermitted):
            self._target = answers.to_results(self._target, f"topic {address.topic} may not be written to")
            return
        with suppress(Unavailable):
            if not await self._publisher.partitions(address.topic):
                self._target = answers.to_results(self._target, f"topic {address.topic} is gone")

    async def _shorter(
        self, outcome: Outcome, claim: Claim | None, error: BodyTooLarge
    ) -> tuple[Outcome, Claim | None]:
        """What is sent instead of a record that was too large; every step leaves less to be sent."""
        if claim is None and outcome.state in _RESULTS:
            return await self._elsewhere(outcome)
        if claim is None and len(outcome.value) > answers.SHORT_BYTES:
            return failure(error), None
        shorter = answers.shorter(self._target)
        if shorter is None:
            _log.error("request %s: no answer fits: %s", self._target.head.id, error)
            await asyncio.sleep(_RETRY_S[-1])
        self._target = shorter or self._target
        return outcome, claim

    async def _elsewhere(self, outcome: Outcome) -> tuple[Outcome, Claim | None]:
        """What is sent instead of a result that is too large, and where that lies."""
        head = self._target.head
        try:
            made = Made(slug(self._rules.model), head.id, self._target.run)
            claim = await self._keeper.keep(made, outcome.value)
        except HeadraceError as error:
            _log.warning("request %s: %s", head.id, error)
            return failure(error), None
        return outcome._replace(value=claims.pointer(claim)), claim
