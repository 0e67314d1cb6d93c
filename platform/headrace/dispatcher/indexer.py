"""The indexer: jobs from the request topics into SQL, so that they can be listed and looked at.

It reads what workers read, as a group of its own, and keeps of each request whose answer is kept one row.
Nothing depends on it being in time: an id says by itself that it was queued.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.events import ModelDeployed
from headrace.contracts.topics import LANES, Topics
from headrace.core.identity import Trust
from headrace.core.jobs import Job, queued
from headrace.core.ports import Record
from headrace.dispatcher.insisting import insist
from headrace.settings import DispatcherSettings

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_GATHER_S: Final = 0.1


class Source(Protocol):
    """Request records, as a member of a group."""

    def follow(self, topics: Iterable[str]) -> None:
        """Read these topics from now on."""
        ...

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        """The next records; empty after `timeout_s`."""
        ...

    async def commit(self) -> bool:
        """Commit all polled so far; False when they will come again."""
        ...


class Index(Protocol):
    """Where jobs are kept."""

    async def index(self, jobs: Sequence[Job]) -> None:
        """Add jobs; see `store.jobs.Jobs.index`."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the indexer works with. `models`: those that are deployed, by slug."""

    source: Source
    index: Index
    models: Callable[[], Mapping[str, ModelDeployed]]
    topics: Topics
    trust: Trust
    settings: DispatcherSettings


class Indexer:
    """The acting shell round `core.jobs.queued`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self, stop: asyncio.Event) -> None:
        """Index until `stop` is set."""
        parts = self._parts
        while not stop.is_set():
            topics = parts.topics
            parts.source.follow(topics.requests(slug, lane) for slug in parts.models() for lane in LANES)
            records = await parts.source.poll(_POLL_S, parts.settings.archive_batch)
            if not records:
                continue
            if not await insist(partial(self._index, records), stop, "jobs"):
                return
            if not await parts.source.commit():
                _log.info("the group has moved on; up to %d requests come again", len(records))
            # Many at once cost less: one by one, as they come, took a tenth of a millisecond each.
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await stop.wait()

    async def _index(self, records: Sequence[Record]) -> None:
        jobs = [job for job in map(self._job, records) if job is not None]
        try:
            await self._parts.index.index(jobs)
        except InvalidRequest:
            for job in jobs:
                await self._index_one(job)

    async def _index_one(self, job: Job) -> None:
        """A row that the database refuses must not keep the others out; its request runs all the same."""
        try:
            await self._parts.index.index([job])
        except InvalidRequest as error:
            _log.warning("request %s is not listed: %s", job.id, error)

    def _job(self, record: Record) -> Job | None:
        found = self._parts.topics.parse_requests(record.place.topic)
        deployed = None if found is None else self._parts.models().get(found[0])
        if found is None or deployed is None:
            return None
        return queued(record, deployed, found[1], self._parts.trust, self._parts.settings.result_retention_s)
