"""What becomes of a request: answered, tried again later, or set aside. Each is durable when it returns."""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from headrace.contracts.errors import BodyTooLarge, HeadraceError, RequestExpired, Unavailable
from headrace.contracts.manifest import Retry
from headrace.contracts.states import State
from headrace.contracts.topics import Topics
from headrace.core import retries
from headrace.core.answers import Outcome, failure
from headrace.core.letters import letter, versions
from headrace.core.ports import Outgoing, Publisher
from headrace.core.usage import usage_of
from headrace.telemetry.worker import UNTOLD, WorkerTelemetry
from headrace.worker.intake import Job, Refusal
from headrace.worker.replies import Replies, Reply

_log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0


@dataclass(slots=True)
class Counts:
    """What this worker has done. completed: of those that were run."""

    completed: int = 0
    tokens: int = 0
    tokens_out: int = 0
    retried: int = 0
    by_state: dict[State, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FateRules:
    """When a request is tried again, and where what becomes of it is written."""

    topics: Topics
    retry: Retry


class Fates:
    """Makes a request's fate durable."""

    def __init__(
        self, publisher: Publisher, replies: Replies, rules: FateRules, told: WorkerTelemetry = UNTOLD
    ) -> None:
        self._publisher = publisher
        self._replies = replies
        self._rules = rules
        self._told = told
        self.counts = Counts()

    async def answer(self, reply: Reply, outcome: Outcome, *, has_run: bool = True) -> None:
        """Tell the caller how it ended. has_run: else it says nothing of what requests cost."""
        await reply.finish(outcome)
        usage = usage_of(outcome.value)
        self.counts.completed += has_run
        self.counts.tokens += (usage.input_tokens or 0) + (usage.output_tokens or 0)
        self.counts.tokens_out += usage.output_tokens or 0
        self._told.ended(outcome.state.value)
        self.counts.by_state[outcome.state] = self.counts.by_state.get(outcome.state, 0) + 1

    async def fail(self, job: Job, error: HeadraceError, reply: Reply) -> None:
        """An attempt has failed: there is another, or the caller is told.

        What the engine, and not the caller, is to blame for is kept for a person to look at.
        """
        if error.kind.retryable:
            # Once a chunk has left, another attempt would begin the caller's stream anew.
            if not reply.chunks and await self._again(job, error):
                return
            await self._set_aside(Refusal(job.record, job.head, error, dead_letter=True))
        await self.answer(reply, failure(error))

    async def refuse(self, refusal: Refusal, run: str) -> None:
        """The request may not run: tell the caller, and keep it when nobody could read it."""
        _log.info("request %s refused: %s", refusal.head.id, refusal.error.message)
        if refusal.dead_letter:
            await self._set_aside(refusal)
        state = State.EXPIRED if isinstance(refusal.error, RequestExpired) else State.FAILED
        reply = await self._replies.open(refusal.head, run, trusted=refusal.trusted)
        await self.answer(reply, failure(refusal.error, state), has_run=False)

    async def _again(self, job: Job, error: HeadraceError) -> bool:
        """Whether the request waits for another attempt now."""
        rules, now_s = self._rules, time.time()
        delay = retries.delay_for(
            job.head.attempt, rules.retry.max_attempts, job.expires_at_s - now_s, rules.retry.delays
        )
        if delay is None:
            return False
        head = retries.next_attempt(job.head)
        why = retries.Retry(head, error.code, error.message, job.expires_at_s, delay)
        try:
            await self._publish(retries.retry(rules.topics, job.record, why, now_s))
        except BodyTooLarge:
            return False  # the headers that say why no longer fit beside it
        _log.info("request %s: attempt %d failed, again in %s: %s", head.id, job.head.attempt, delay, error)
        self.counts.retried += 1
        self._told.ended("retried")
        return True

    async def _set_aside(self, refusal: Refusal) -> None:
        """Dead-letter a record: its bytes, where it came from and why."""
        self._told.set_aside()
        sent = letter(self._rules.topics, refusal.record, refusal.error, refusal.head.id.encode())
        *longer, bare = versions(sent)
        for each in longer:
            with suppress(BodyTooLarge):
                await self._publish(each)
                return
        await self._publish(bare)

    async def _publish(self, sent: Outgoing) -> None:
        """Returns when the broker has it, however long that takes."""
        while True:
            try:
                await (await self._publisher.send(sent))
            except Unavailable as error:
                _log.warning("%s not written yet: %s", sent.topic, error)
                await asyncio.sleep(_RETRY_S)
            else:
                return
