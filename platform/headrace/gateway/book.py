"""All that is known of a job: from its id, from SQL, from heartbeats and from Kafka's offsets."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil
from typing import Final, Protocol

import orjson

from headrace.contracts import ids
from headrace.contracts.errors import UnknownJob
from headrace.contracts.jobs import Queue, Shown
from headrace.contracts.states import FINAL, State
from headrace.core.archive import FinalResult
from headrace.core.deadlines import patience_s
from headrace.core.jobs import Job
from headrace.gateway.callers import Caller
from headrace.gateway.directory import Directory

_UNLISTED_S: Final = 900.0
"""The index is a moment behind; a dispatcher may be away for minutes. An older id that it lacks is gone."""


class JobStore(Protocol):
    """The index of jobs; see `store.jobs.Jobs`."""

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """A job of the tenant."""
        ...

    async def was_forgotten(self, job_id: str) -> bool:
        """Whether somebody has removed it."""
        ...

    async def forget(self, tenant: str, job_id: str) -> bool:
        """Remove a job of the tenant, and its result."""
        ...


class ResultStore(Protocol):
    """The archive; see `store.results.Results`."""

    async def get(self, request_id: str) -> FinalResult | None:
        """The result of a request."""
        ...


class Positions(Protocol):
    """Where requests stand in their partitions."""

    async def ahead(self, group: str, topic: str, partition: int, offset: int) -> int | None:
        """Requests before `offset` that have no fate; None when Kafka does not say soon."""
        ...


@dataclass(frozen=True, slots=True)
class BookParts:
    """What the book is made of. Stores are asked for when they are needed: they open the database."""

    key: bytes
    directory: Directory
    jobs: Callable[[], JobStore]
    results: Callable[[], ResultStore]
    positions: Positions
    fetch: Callable[[dict[str, bytes]], Awaitable[bytes]]
    clock: Callable[[], float] = time.time


class Book:
    """Jobs, by tenant and id."""

    def __init__(self, parts: BookParts) -> None:
        self._parts = parts

    async def job(self, caller: Caller, job_id: str) -> Job:
        """The job, as far as it is known.

        Raises:
            UnknownJob: the caller's tenant has none of this id.
            Unavailable: the database does not serve.
        """
        store = self._parts.jobs()
        found = await store.get(caller.tenant, job_id)
        if found is not None:
            return found
        told = ids.read(self._parts.key, job_id, caller.tenant.encode())
        is_new = told is not None and told.made_at_ms / 1000 > self._parts.clock() - _UNLISTED_S
        if told is None or not is_new or await store.was_forgotten(job_id):
            raise UnknownJob(
                f"There is no job '{job_id[:100]}'; those that have ended are kept for a while",
                param="id",
            )
        deployed = self._parts.directory.by_tag(told.model_tag)
        made_s = told.made_at_ms / 1000
        return Job(
            id=job_id,
            tenant=caller.tenant,
            model="" if deployed is None else deployed.name,
            path="",
            lane=told.lane.value,
            state=State.QUEUED,
            attempt=1,
            stream=False,
            created_at_s=made_s,
            expires_at_s=made_s + patience_s(told.lane),
            deadline_s=made_s + patience_s(told.lane),
        )

    async def result(self, job: Job) -> FinalResult | None:
        """Its result, once it has one. A job that has ended may have none any more."""
        return await self._parts.results().get(job.id)

    async def body(self, result: FinalResult) -> bytes:
        """The result's exact bytes, wherever they are.

        Raises:
            Unavailable: the bucket does not serve.
            InternalError: they are not there, or too many.
        """
        if result.claim_json is None:
            return result.body
        headers = {name: text.encode() for name, text in orjson.loads(result.claim_json).items()}
        return await self._parts.fetch(headers)

    async def forget(self, job: Job) -> None:
        """Remove it and its result."""
        await self._parts.jobs().forget(job.tenant, job.id)

    async def shown(self, job: Job, *, whole: bool = True) -> Shown:
        """The job as callers see it. whole: with its result and its place in the queue."""
        state, queue, result = job.state, None, None
        if state in FINAL:
            result = await self.result(job) if whole else None
        elif self._parts.directory.runs(job.id, self._parts.clock()):
            state = State.IN_PROGRESS
        elif whole:
            queue = await self._queue(job)
        return Shown(
            id=job.id,
            state=state,
            path=job.path,
            model=job.model,
            lane=job.lane,
            attempts=job.attempt,
            created_at_s=job.created_at_s,
            deadline_s=job.deadline_s,
            finished_at_s=job.finished_at_s,
            expires_at_s=job.expires_at_s,
            http_status=job.http_status,
            queue=queue,
            body=None if result is None or result.claim_json is not None else result.body,
            content_type="" if result is None else result.content_type,
        )

    async def _queue(self, job: Job) -> Queue | None:
        directory = self._parts.directory
        found = directory.find(job.model)
        if job.topic is None or job.partition is None or job.offset is None or found is None:
            return None
        group = directory.group(found)
        ahead = await self._parts.positions.ahead(group, job.topic, job.partition, job.offset)
        if ahead is None:
            return None
        rate_per_s = directory.rate_per_s(found.name, self._parts.clock())
        # Workers take partitions in turn, so that as many go before it in each of the others.
        before = ahead * found.partitions
        return Queue(ahead, ceil(before / rate_per_s) if rate_per_s else None)
