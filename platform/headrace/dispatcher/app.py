"""Wiring of the dispatcher."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from headrace.core.archive import FinalResult
from headrace.dispatcher.archiver import Archiver, Parts
from headrace.kafka.admin import Admin
from headrace.kafka.group import GroupReader
from headrace.kafka.producer import Producer
from headrace.settings import DatabaseSettings, Settings

if TYPE_CHECKING:
    from headrace.store.results import Results

_log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Archive final results until `stop` is set.

    Raises:
        SetupError: the database URL is wrong or its driver is missing, or Kafka refuses us.
    """
    topics = settings.kafka.topics
    async with AsyncExitStack() as stack:
        archive = _LateArchive(settings.database)
        stack.push_async_callback(archive.close)
        async with Admin(settings.kafka) as admin:
            await admin.ensure_topics(topics.shared_plans())
        producer = Producer(settings.kafka, source="dispatcher")
        await producer.start()
        stack.push_async_callback(producer.stop)
        source = GroupReader(settings.kafka, f"{settings.kafka.topic_prefix}archiver", [topics.results])
        await source.start()
        stack.push_async_callback(source.stop)
        _log.info("ready, archiving %s", topics.results)
        await Archiver(Parts(source, archive, producer, topics, settings.dispatcher)).run(stop)


class _LateArchive:
    """The archive, opened when the first result comes.

    An idle dispatcher on SQLite then does without SQLAlchemy's 25 MB. A server's URL is checked at once:
    it is more likely to be wrong.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._results: Results | None = None
        if not settings.url.startswith("sqlite"):
            self._open()

    async def add_many(self, rows: Sequence[FinalResult]) -> int:
        return await self._open().add_many(rows)

    async def purge(self, now_s: float) -> int:
        return 0 if self._results is None else await self._results.purge(now_s)

    async def close(self) -> None:
        if self._results is not None:
            await self._results.close()

    def _open(self) -> "Results":
        if self._results is None:
            from headrace.store.database import open_engine  # noqa: PLC0415
            from headrace.store.results import Results  # noqa: PLC0415

            self._results = Results(open_engine(self._settings))
        return self._results
