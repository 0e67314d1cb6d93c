"""Wiring of the dispatcher."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Final, Protocol, Self

from headrace.contracts.errors import Unavailable
from headrace.contracts.events import Cancel, ModelDeployed
from headrace.contracts.topics import LANES, RETRY_DELAYS_S, unslug
from headrace.core.archive import FinalResult
from headrace.core.cancels import Cancels
from headrace.core.identity import UNCHECKED, Trust
from headrace.core.jobs import Job
from headrace.core.ports import Record
from headrace.dispatcher import archiver as archiving
from headrace.dispatcher import caretaker as caring
from headrace.dispatcher import indexer as indexing
from headrace.dispatcher import retries as retrying
from headrace.dispatcher import webhooks as delivering
from headrace.dispatcher.answering import Answering
from headrace.dispatcher.archiver import Archiver
from headrace.dispatcher.batch_parts import Limits
from headrace.dispatcher.batch_parts import Parts as BatchParts
from headrace.dispatcher.batches import Batches
from headrace.dispatcher.caretaker import Caretaker
from headrace.dispatcher.deployed import Deployed
from headrace.dispatcher.file_removal import FileRemoval
from headrace.dispatcher.indexer import Indexer
from headrace.dispatcher.retries import Retries
from headrace.dispatcher.webhooks import Deliverer
from headrace.hooks.sender import Sender
from headrace.kafka.admin import Admin
from headrace.kafka.control import Control
from headrace.kafka.delayed import DelayedReader
from headrace.kafka.group import GroupReader
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.kafka.returning import RETRIES
from headrace.kafka.vacant import VacantGroup
from headrace.registry import purge
from headrace.registry.claims import Claims
from headrace.registry.objects import Objects
from headrace.settings import DatabaseSettings, KafkaSettings, Settings, TelemetrySettings
from headrace.store import peek
from headrace.store.late import Stores
from headrace.telemetry import metrics
from headrace.telemetry.instruments import Instruments
from headrace.telemetry.setup import opened

_log = logging.getLogger(__name__)

_COUNT_S: Final = 5.0
_LOOK_S: Final = 1.0

_Service = Coroutine[Any, Any, None]


class Service(Protocol):
    """What the dispatcher runs until it is told to stop."""

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set."""
        ...


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Archive results, put retries back, look after models without workers, until `stop` is set.

    Raises:
        SetupError: the database URL is wrong or its driver is missing, or Kafka refuses us.
    """
    topics = settings.kafka.topics
    async with AsyncExitStack() as stack:
        stores = Stores(settings.database)
        stack.push_async_callback(stores.close)
        store = _Store(stores)
        async with Admin(settings.kafka) as admin:
            await admin.ensure_topics(topics.shared_plans())
        producer = Producer(settings.kafka, source="dispatcher")
        await producer.start()
        stack.push_async_callback(producer.stop)
        results = GroupReader(settings.kafka, f"{settings.kafka.topic_prefix}archiver", [topics.results])
        archiver = Archiver(archiving.Parts(results, store, producer, topics, settings.dispatcher))
        waiting = [topics.retries(delay) for delay in RETRY_DELAYS_S]
        due = DelayedReader(
            settings.kafka, f"{settings.kafka.topic_prefix}{RETRIES}", waiting, retrying.due_s
        )
        answering = Answering(producer, topics, settings.worker.reply_topics)
        cancels, trust = Cancels(), _trust(settings)
        retries = Retries(retrying.Parts(due, answering, cancels, topics, trust))
        deployed, followers = await _hear(stack, settings, cancels, trust)
        groups = await stack.enter_async_context(_Groups(settings.kafka))
        interval_s = settings.dispatcher.caretaker_interval_s
        models = deployed.by_slug
        caretaker = Caretaker(caring.Parts(groups, lambda: models, answering, cancels, trust, interval_s))
        asked = GroupReader(settings.kafka, f"{settings.kafka.topic_prefix}indexer", [])
        indexer = Indexer(indexing.Parts(asked, store, lambda: models, topics, trust, settings.dispatcher))
        for source in (results, due, asked):
            await source.start()
            stack.push_async_callback(source.stop)
        if settings.s3.is_given:
            stack.callback(asyncio.create_task(purge.regularly()).cancel)
        telemetry = stack.enter_context(opened(settings.telemetry, "dispatcher"))
        if telemetry.is_on:
            counting = asyncio.create_task(groups.count(telemetry.instruments, settings.telemetry))
            stack.callback(counting.cancel)
        _log.info("ready: archiving %s, putting back retries", topics.results)
        late = [
            *_batches(stack, settings, (stores, producer, trust), deployed),
            _webhooks(stack, settings, stores),
        ]
        services: list[Service] = [archiver, indexer, retries, caretaker, *late]
        await _all([service.run(stop) for service in services], followers)


async def _all(services: Iterable[_Service], following: Sequence[asyncio.Task[None]]) -> None:
    """Run the services to their ends, and the followers meanwhile. A fault of one ends the process."""
    serving = [asyncio.create_task(service) for service in services]
    try:
        while waiting := [task for task in serving if not task.done()]:
            done, _ = await asyncio.wait([*waiting, *following], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _hear(
    stack: AsyncExitStack, settings: Settings, cancels: Cancels, trust: Trust
) -> tuple[Deployed, list[asyncio.Task[None]]]:
    """Remember cancels, those that were said before as well; gives what is deployed.

    The tasks that it also gives follow both for ever.
    """
    topics = settings.kafka.topics
    news = Control(await stack.enter_async_context(PartitionReader(settings.kafka, {topics.control: None})))

    def cancel(event: Cancel, record: Record) -> None:
        trusted = trust.judge_cancel(record.headers, event.request_id)
        cancels.add(event.request_id, event.sent_at_s, trusted=trusted)

    news.on(Cancel, cancel)
    deployed = Deployed()
    reader = await stack.enter_async_context(PartitionReader(settings.kafka, {topics.models: None}))
    deployed.update(await reader.read_to_end())
    following = [asyncio.create_task(news.follow()), asyncio.create_task(deployed.follow(reader))]
    for task in following:
        stack.callback(task.cancel)
    await news.catch_up()
    return deployed, following


class _Groups:
    """Fills `caretaker.Groups`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = Admin(settings)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._admin.stop()

    async def vacant(self) -> list[str]:
        waiting: dict[str, int] = {}
        found = await self._admin.backlog()
        for slug, fault in found.faults.items():
            _log.warning("if %s has no workers, its requests wait: %s", unslug(slug), fault)
        for part in found.rows:
            waiting[part.model_slug] = waiting.get(part.model_slug, 0) + part.requests
        group = self._settings.topics.group
        busy = [slug for slug, requests in waiting.items() if requests]
        return [slug for slug in busy if not await self._admin.has_members(group(slug))]

    async def count(self, instruments: Instruments, settings: TelemetrySettings) -> None:
        """Keep the backlog of every model known, for ever. What cannot be read stays as it was."""
        counted: dict[tuple[str, str], int] = {}
        while True:
            try:
                found = await self._admin.backlog()
            except Unavailable as error:
                _log.warning("backlog not known: %s", error)
            else:
                for slug, fault in found.faults.items():
                    _log.warning("backlog of %s not known: %s", unslug(slug), fault)
                unread = {unslug(slug) for slug in found.faults}
                counted = {labels: requests for labels, requests in counted.items() if labels[0] in unread}
                for part in found.rows:
                    labels = unslug(part.model_slug), part.lane.value
                    counted[labels] = counted.get(labels, 0) + part.requests
                instruments.clear(metrics.BACKLOG)
                for labels, requests in counted.items():
                    instruments.series(metrics.BACKLOG, *labels).set(requests)
            await asyncio.sleep(min(settings.export_interval_s, _COUNT_S))

    def open(self, deployed: ModelDeployed) -> VacantGroup:
        topics, slug = self._settings.topics, deployed.slug
        lanes = {topics.requests(slug, lane): deployed.partitions for lane in LANES}
        return VacantGroup(self._settings, topics.group(slug), lanes)


def _trust(settings: Settings) -> Trust:
    secret = settings.secret_key
    trust = Trust.from_secret(None if secret is None else secret.get_secret_value())
    if trust.key is None:
        _log.warning(UNCHECKED)
    return trust


class _Store:
    """Fills `core.archive.Archive` and `indexer.Index`; opens nothing before there is something to keep."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def add_many(self, rows: Sequence[FinalResult]) -> int:
        return await self._stores.results.add_many(rows)

    async def index(self, jobs: Sequence[Job]) -> None:
        if jobs:
            await self._stores.jobs.index(jobs)

    async def purge(self, now_s: float) -> int:
        stores = self._stores
        if not stores.is_open:
            return 0
        return sum(
            [
                await each.purge(now_s)
                for each in (stores.results, stores.jobs, stores.keys, stores.webhooks, stores.usage)
            ]
        )


def _batches(
    stack: AsyncExitStack, settings: Settings, parts: tuple[Stores, Producer, Trust], models: Deployed
) -> list["_Late"]:
    """Batches and their files; nothing where there is no bucket, because then there can be no files."""
    if not settings.s3.is_given:
        return []
    stores, producer, trust = parts
    objects, claims = Objects(settings.s3), Claims(settings.s3)
    stack.callback(objects.close)
    stack.callback(claims.close)

    def batches() -> Service:
        from headrace.store import webhooks  # noqa: PLC0415
        from headrace.store.batches import Batches as Store  # noqa: PLC0415
        from headrace.store.files import Files  # noqa: PLC0415

        engine, topics = stores.engine, settings.kafka.topics
        limits = Limits(settings.batches, settings.files)
        work = BatchParts(
            Store(engine, partial(webhooks.tell_of_batch, engine)),
            Files(engine),
            objects,
            producer,
            topics,
            models.find,
            trust.key,
            claims.body,
            limits,
        )
        return Batches(work)

    def removal() -> Service:
        from headrace.store.files import Files  # noqa: PLC0415

        return FileRemoval(Files(stores.engine), objects)

    database = settings.database
    return [_Late(database, "batches", batches), _Late(database, "files", removal)]


def _webhooks(stack: AsyncExitStack, settings: Settings, stores: Stores) -> "_Late":
    sender = Sender(settings.webhooks)
    stack.push_async_callback(sender.close)
    deliverer = Deliverer(delivering.Parts(lambda: stores.webhooks, sender, settings.webhooks))
    return _Late(settings.database, "webhooks", lambda: deliverer)


class _Late:
    """A service that begins when there is something in the database for it."""

    def __init__(self, database: DatabaseSettings, what: str, make: Callable[[], Service]) -> None:
        self._database = database
        self._what = what
        self._make = make

    async def run(self, stop: asyncio.Event) -> None:
        """Look once a second, which costs less than a millisecond; then run."""
        while not stop.is_set():
            if await asyncio.to_thread(peek.may_hold, self._database, self._what):
                await self._make().run(stop)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await stop.wait()
