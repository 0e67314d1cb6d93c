"""Wiring of the dispatcher."""

import asyncio
import logging
from contextlib import AsyncExitStack

from headrace.dispatcher.archiver import Archiver, Parts
from headrace.kafka.admin import Admin
from headrace.kafka.group import GroupReader
from headrace.kafka.producer import Producer
from headrace.settings import Settings
from headrace.store.database import open_engine
from headrace.store.results import Results

_log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Archive final results until `stop` is set.

    Raises:
        SetupError: the database URL is wrong or its driver is missing, or Kafka refuses us.
    """
    topics = settings.kafka.topics
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database)
        stack.push_async_callback(engine.dispose)
        async with Admin(settings.kafka) as admin:
            await admin.ensure_topics(topics.shared_plans())
        producer = Producer(settings.kafka, source="dispatcher")
        await producer.start()
        stack.push_async_callback(producer.stop)
        source = GroupReader(settings.kafka, f"{settings.kafka.topic_prefix}archiver", [topics.results])
        await source.start()
        stack.push_async_callback(source.stop)
        _log.info("ready, archiving %s", topics.results)
        await Archiver(Parts(source, Results(engine), producer, topics, settings.dispatcher)).run(stop)
