"""Wiring of a worker: load, warm up, join, serve, drain, leave.

It joins the group only when its engine is warm: a member that cannot serve would hold partitions up.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts.errors import EngineDied, HeadraceError, SetupError, Unavailable
from headrace.contracts.events import (
    BURIED,
    ENGINE_DIED,
    MAX_RUNNING,
    UNWELL,
    Cancel,
    Handover,
    ModelDeployed,
    Obituary,
    WorkerState,
)
from headrace.contracts.topics import LANES
from headrace.core.answers import ReplyRules
from headrace.core.blame import heard
from headrace.core.identity import UNCHECKED, Trust
from headrace.core.ports import Engine, Outgoing, Record
from headrace.engines import catalog
from headrace.kafka.control import Control
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.kafka.work import WorkConsumer, WorkRules, WorkTopics
from headrace.registry.cache import FunctionCache
from headrace.registry.claims import Claims
from headrace.registry.sources import resolve
from headrace.settings import Settings
from headrace.telemetry import metrics
from headrace.telemetry.setup import opened
from headrace.telemetry.worker import UNTOLD, Served, WorkerTelemetry
from headrace.worker.canary import Canary
from headrace.worker.claims import Keeper
from headrace.worker.fates import FateRules, Fates
from headrace.worker.heartbeat import Heartbeat, Vitals, WorkerSpec
from headrace.worker.journal import Journal
from headrace.worker.loop import Loop, Parts
from headrace.worker.replies import Replies
from headrace.worker.watchdog import Watchdog

_log = logging.getLogger(__name__)

_LAST_WORD_S: Final = 1.0


async def run(settings: Settings, stop: asyncio.Event, spec: WorkerSpec) -> None:
    """Serve one model version until `stop` is set, then drain.

    Without a version it is the one that is deployed, until another is; whatever runs this worker restarts it.

    Raises:
        SetupError: the model version is unknown, its files cannot be had, or its engine does not start.
    """
    if spec.version:
        await _work(settings, stop, spec)
        return
    async with PartitionReader(settings.kafka, {settings.kafka.topics.models: None}) as reader:
        deployed = _deployed(await reader.read_to_end(), spec.model)
        if deployed is None:
            raise SetupError(f"There is no model '{spec.model}': deploy it first")
        following = asyncio.create_task(_replaced(reader, deployed))
        # Also when it fails: whoever cannot hear of another version would serve this one for ever.
        following.add_done_callback(lambda _: stop.set())
        try:
            await _work(settings, stop, replace(spec, version=deployed.version))
        finally:
            following.cancel()
        if following.done() and not following.cancelled():
            following.result()


async def _replaced(reader: PartitionReader, deployed: ModelDeployed) -> None:
    """Until another version is deployed."""
    latest: ModelDeployed | None = deployed
    while latest is None or latest.version == deployed.version:
        latest = _deployed(await reader.poll(1.0), deployed.name)
    _log.info("version %s of %s is deployed: this worker ends", latest.version, latest.name)


async def _work(settings: Settings, stop: asyncio.Event, spec: WorkerSpec) -> None:
    producer = Producer(settings.kafka, source=spec.id)
    await producer.start()
    heartbeat = Heartbeat(producer, settings.kafka.topics.workers, spec)
    try:
        await heartbeat.become(WorkerState.STARTING)
        await _serve(settings, stop, _Bench(spec, producer, heartbeat))
        await heartbeat.become(WorkerState.STOPPED)
        await heartbeat.end()
    except Exception as error:
        # Stays on the list for a while, so that everybody can see why.
        await heartbeat.become(WorkerState.FAILED, str(error))
        raise
    finally:
        await producer.stop()


class _Bench:
    """What exists from the first moment on."""

    def __init__(self, spec: WorkerSpec, producer: Producer, heartbeat: Heartbeat) -> None:
        self.spec = spec
        self.producer = producer
        self.heartbeat = heartbeat
        self.told = UNTOLD


async def _serve(settings: Settings, stop: asyncio.Event, bench: _Bench) -> None:
    async with AsyncExitStack() as stack:
        beat = asyncio.create_task(bench.heartbeat.regularly(settings.worker.heartbeat_s))
        stack.callback(beat.cancel)
        deployed = await _find(settings, bench.spec)
        engine = await stack.enter_async_context(_engine(settings, deployed))
        canary = Canary(deployed, engine)
        # Beside what else is to be made ready: only the first caller's request must wait for it.
        proving = asyncio.create_task(canary.prove())
        stack.callback(proving.cancel)
        watchdog = Watchdog(settings.worker.stall_s)
        watchdog.start()
        stack.callback(watchdog.stop)

        control = PartitionReader(settings.kafka, {settings.kafka.topics.control: None})
        news = Control(await stack.enter_async_context(control))
        trust = _trust(settings)
        source = _source(settings, bench, deployed, news, trust)
        telemetry = stack.enter_context(opened(settings.telemetry, "worker", bench.spec.id))
        bench.told = WorkerTelemetry(_served(settings, bench.spec, deployed), telemetry)
        parts = replace(_parts(settings, bench, deployed, engine, source, trust), canary=canary)
        if parts.journal is not None:
            stack.callback(parts.journal.close)
        loop = Loop(parts)
        for metric, read in (
            (metrics.IN_FLIGHT, lambda: loop.in_flight),
            (metrics.CAPACITY, lambda: min(parts.capacity, engine.capacity)),
        ):
            telemetry.instruments.watch(metric, read, deployed.name)
        bench.heartbeat.vitals = lambda: Vitals(
            in_flight=loop.in_flight,
            capacity=min(parts.capacity, engine.capacity),
            completed=parts.fates.counts.completed,
            tokens=parts.fates.counts.tokens,
            tokens_out=parts.fates.counts.tokens_out,
            body_bytes=loop.body_bytes,
            settled=loop.settled + source.skipped,
            occupied=loop.occupied,
            member_id=source.member_id,
            group=source.group,
            signature=getattr(engine, "signature", None),  # only those of tensors have one
            running=loop.jobs(MAX_RUNNING),
            health=canary.health,
        )
        _hear(news, loop, parts, source, bench.spec.id)
        follower = asyncio.create_task(news.follow())
        stack.callback(follower.cancel)
        # Who heard no cancels and no obituaries any more would go on as if there were none.
        follower.add_done_callback(lambda _: stop.set())
        await news.catch_up()

        await proving
        await source.start()
        stack.push_async_callback(source.stop)
        announcing = asyncio.create_task(_announce(source, bench.heartbeat))
        _log.info("warm: %s %s, capacity %d", deployed.name, deployed.version, parts.capacity)
        unwell = await _until_over(settings, stop, bench, loop, announcing)
        if unwell is not None:
            await source.stop()
            await bench.heartbeat.become(WorkerState.FAILED, unwell)
            _log.error("not well: %s", unwell)
            # Who sees us end reads why a moment later.
            await asyncio.sleep(_LAST_WORD_S)
            # No farewell to the engine: one that hangs would keep us.
            logging.shutdown()
            os._exit(UNWELL)
        if follower.done():
            follower.result()


async def _until_over(
    settings: Settings, stop: asyncio.Event, bench: _Bench, loop: Loop, announcing: asyncio.Task[None]
) -> str | None:
    """Serve until told to stop, or until no longer well; then drain. Gives why it is not well."""
    stopping = asyncio.create_task(stop.wait())
    watching = asyncio.create_task(loop.watch())
    ending = asyncio.Event()
    for each in (stopping, watching):
        each.add_done_callback(lambda _: ending.set())
    try:
        await loop.run(ending)
    except EngineDied:
        # No farewell: what was in flight must not move before the obituary says who is to blame.
        logging.shutdown()
        os._exit(ENGINE_DIED)
    finally:
        unwell = watching.result() if watching.done() else None
        announcing.cancel()
        stopping.cancel()
        watching.cancel()
        await bench.heartbeat.become(WorkerState.DRAINING)
        await loop.drain(settings.worker.drain_s)
    return unwell


def _served(settings: Settings, spec: WorkerSpec, deployed: ModelDeployed) -> Served:
    topics = settings.kafka.topics
    return Served(
        model=deployed.name,
        engine=deployed.manifest.engine.kind,
        worker_id=spec.id,
        group=topics.group(deployed.slug),
        lanes={topics.requests(deployed.slug, lane): lane.value for lane in LANES},
    )


def _source(
    settings: Settings, bench: _Bench, deployed: ModelDeployed, news: Control, trust: Trust
) -> WorkConsumer:
    control = settings.kafka.topics.control

    def tenant_of(record: Record) -> bytes | None:
        tenant = record.headers.get(h.TENANT_ID)
        return tenant if tenant and trust.judge(record.headers, deployed.slug) else None

    async def report(event: Handover) -> None:
        key = f"handover/{event.worker}/{event.topic}/{event.partition}"
        try:
            await bench.producer.send(Outgoing(control, event.encode(), key.encode()))
        except Unavailable as error:
            # Without our word the new owner waits until the hold ends, and runs it anew.
            _log.warning("hand-over of %s[%d] not told: %s", event.topic, event.partition, error)

    rules = WorkRules(tenant_of=tenant_of, before_new=news.catch_up, report=report)
    return WorkConsumer(settings, WorkTopics(settings.kafka.topics, deployed.slug), bench.spec.id, rules)


def _parts(  # what the loop works with is made of these
    settings: Settings,
    bench: _Bench,
    deployed: ModelDeployed,
    engine: Engine,
    source: WorkConsumer,
    trust: Trust,
) -> Parts:
    topics, spec, manifest = settings.kafka.topics, bench.spec, deployed.manifest
    rules = ReplyRules(topics, settings.worker.reply_topics, f"/workers/{spec.id}", deployed.name)
    claims = Claims(settings.s3) if settings.s3.is_given else None
    replies = Replies(bench.producer, rules, Keeper(claims, settings.worker.max_result_bytes))
    most = manifest.limits.max_concurrency
    # An engine that waits for a slot of its own begins the next call without us: no step is lost.
    is_full = most is None or most >= engine.capacity
    capacity = engine.capacity + engine.lookahead if is_full else int(most or 0)
    return Parts(
        deployed=deployed,
        engine=engine,
        source=source,
        replies=replies,
        fates=Fates(bench.producer, replies, FateRules(topics, manifest.retry), bench.told),
        capacity=capacity,
        told=bench.told,
        trust=trust,
        journal=None if spec.journal is None else Journal(spec.journal, capacity, source.lanes),
    )


def _hear(news: Control, loop: Loop, parts: Parts, source: WorkConsumer, worker_id: str) -> None:
    """What is done about each kind of event on `control`."""
    began_s = time.time()

    def cancel(event: Cancel, record: Record) -> None:
        trusted = parts.trust.judge_cancel(record.headers, event.request_id)
        parts.cancels.add(event.request_id, event.sent_at_s, trusted=trusted)
        loop.cancel(event.request_id, trusted=trusted)

    def bury(event: Obituary, _: Record) -> None:
        if event.worker == worker_id and event.sent_at_s > began_s:
            _log.error("declared dead, as on a machine that was cut off: others have its requests; ending")
            logging.shutdown()
            os._exit(BURIED)
        parts.suspects.learn(heard(event.blamed))  # before anything that it held is free
        source.buried(event)

    news.on(Cancel, cancel)
    news.on(Obituary, bury)
    news.on(Handover, lambda event, _: source.told(event))


def _trust(settings: Settings) -> Trust:
    secret = settings.secret_key
    trust = Trust.from_secret(None if secret is None else secret.get_secret_value())
    if trust.key is None:
        _log.warning(UNCHECKED)
    return trust


async def _announce(source: WorkConsumer, heartbeat: Heartbeat) -> None:
    """Ready is who holds partitions; behind a member that died, joining can take a session timeout."""
    await source.joined.wait()
    await heartbeat.become(WorkerState.READY)


async def _find(settings: Settings, spec: WorkerSpec) -> ModelDeployed:
    """The deployment to serve, from the `models` topic."""
    async with PartitionReader(settings.kafka, {settings.kafka.topics.models: None}) as reader:
        found = _deployed(await reader.read_to_end(), spec.model, spec.version)
    if found is None:
        raise SetupError(f"Model '{spec.model}' has no version {spec.version}: deploy it first")
    return found


def _deployed(records: Sequence[Record], model: str, version: str | None = None) -> ModelDeployed | None:
    """The last deployment of the model, or of this version of it."""
    found = None
    for record in records:
        if record.key != model.encode() or record.value is None:
            continue
        try:
            event = ModelDeployed.decode(record.value)
        except HeadraceError as error:  # of a newer release, perhaps
            _log.warning("record at %s ignored: %s", record.place, error)
            continue
        found = event if version in (None, event.version) else found
    return found


@asynccontextmanager
async def _engine(settings: Settings, deployed: ModelDeployed) -> AsyncIterator[Engine]:
    """The engine, warm."""
    started_s = time.monotonic()
    folder = await FunctionCache(settings).fetch(deployed.version, deployed.package_url)
    model = deployed.manifest.model
    path = None if model is None else await resolve(model, folder, settings)
    sources = deployed.manifest.adapters
    adapters = {name: await resolve(source, folder, settings) for name, source in sources.items()}
    engine = catalog.create(deployed.manifest, path, folder, adapters)
    await engine.start()
    _log.info("engine %s warm after %.2f s", deployed.manifest.engine.kind, time.monotonic() - started_s)
    try:
        yield engine
    finally:
        await engine.stop()
