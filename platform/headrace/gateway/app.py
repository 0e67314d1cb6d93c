"""Wiring of a gateway."""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from headrace.contracts.identity import signing_key
from headrace.contracts.requests import ReplyAddress
from headrace.core.archive import FinalResult
from headrace.core.ports import Reader
from headrace.gateway import batches, files, jobs, responses, webhooks
from headrace.gateway.book import Book, BookParts
from headrace.gateway.callers import Callers, keyring_for
from headrace.gateway.channel import Identity
from headrace.gateway.claims import Collector
from headrace.gateway.directory import Directory
from headrace.gateway.following import Following
from headrace.gateway.front import More, application
from headrace.gateway.heartbeat import Heartbeat
from headrace.gateway.jobs import JobParts
from headrace.gateway.kept import KeptParts, KeptRequests
from headrace.gateway.keyring import Keyring
from headrace.gateway.responses import Conversations, ResponseParts
from headrace.gateway.server import listen, serve
from headrace.gateway.streams import Streams
from headrace.gateway.submit import Submitter
from headrace.gateway.webhooks import WebhookParts
from headrace.hooks.sender import Sender
from headrace.kafka.admin import Admin
from headrace.kafka.positions import QueuePositions
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.kafka.streams import StreamReader
from headrace.registry.claims import Claims
from headrace.registry.objects import Objects
from headrace.settings import Settings
from headrace.store.late import Stores
from headrace.telemetry import metrics
from headrace.telemetry.gateway import GatewayTelemetry
from headrace.telemetry.setup import opened

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve HTTP until `stop` is set, then drain."""
    topics = settings.kafka.topics
    async with AsyncExitStack() as stack:
        socket = stack.enter_context(listen(settings.gateway))
        admin = await stack.enter_async_context(Admin(settings.kafka))
        await admin.ensure_topics(topics.shared_plans())
        producer = Producer(settings.kafka, source="gateway")
        await producer.start()
        stack.push_async_callback(producer.stop)

        directory = Directory(topics)
        news = PartitionReader(settings.kafka, {topics.models: None, topics.workers: None})
        await stack.enter_async_context(news)
        directory.update(await news.read_to_end())
        partition = directory.free_reply_partition(time.time())
        replies = PartitionReader(settings.kafka, {topics.replies: [partition]}, at="end")
        await stack.enter_async_context(replies)

        gateway_id = f"g-{uuid.uuid4().hex[:12]}"
        reply = ReplyAddress(topics.replies, partition)
        identity = Identity(f"/gateways/{gateway_id}", _signing_key(settings), reply, topics)
        submitter = Submitter(settings.gateway, identity, directory, producer)
        telemetry = stack.enter_context(opened(settings.telemetry, "gateway", gateway_id))
        telemetry.instruments.watch(metrics.WAITING, lambda: len(submitter.replies))
        submitter.gate.silent_s = producer.silent_s
        core = _Core(identity, directory, submitter, admin)
        outside = await _outside(stack, settings)
        more = _more(settings, core, outside)
        heartbeat = Heartbeat(producer, topics.workers, gateway_id, partition)
        stack.push_async_callback(heartbeat.end)
        stack.push_async_callback(submitter.stop)

        def is_ready() -> bool:
            return heartbeat.is_fresh() and not stop.is_set()

        def on_fault() -> None:
            stop.set()
            submitter.give_up()

        host, port = socket.getsockname()[:2]
        _log.info("serving http://%s:%d, reply partition %d", host, port, partition)
        await _together(
            serve(
                application(
                    settings.gateway, submitter, directory, is_ready, GatewayTelemetry(telemetry), more
                ),
                socket,
                settings.gateway,
                stop,
            ),
            (
                _follow(news, directory),
                submitter.replies.follow(replies),
                outside.streams.follow(),
                submitter.replies.sweep(),
                heartbeat.regularly(),
                outside.keyring.regularly(),
                submitter.gate.queues.regularly(admin, directory.models),
                submitter.gate.meter.regularly(lambda: outside.stores.usage),
                submitter.gate.unfinished.regularly(lambda: outside.stores.jobs),
                _end_drain(stop, settings.gateway.drain_s, submitter),
            ),
            on_fault,
        )


@dataclass(frozen=True, slots=True)
class _Core:
    """What the paths beside those of inference stand on."""

    identity: Identity
    directory: Directory
    submitter: Submitter
    admin: Admin


@dataclass(frozen=True, slots=True)
class _Outside:
    """What they reach: the database, the bucket, streams in Kafka, and receivers of webhooks."""

    streams: Streams
    stores: Stores
    keyring: Keyring
    sender: Sender
    objects: Objects | None


async def _outside(stack: AsyncExitStack, settings: Settings) -> _Outside:
    streams = Streams(await stack.enter_async_context(StreamReader(settings.kafka)))
    stores = Stores(settings.database)
    stack.push_async_callback(stores.close)
    keyring = keyring_for(settings.gateway, stores.api_keys)
    await keyring.refresh()
    sender = Sender(settings.webhooks)
    stack.push_async_callback(sender.close)
    objects = Objects(settings.s3) if settings.s3.is_given else None
    if objects is not None:
        stack.callback(objects.close)
    return _Outside(streams, stores, keyring, sender, objects)


def _more(settings: Settings, core: _Core, outside: _Outside) -> More:
    submitter, stores = core.submitter, outside.stores
    claims = Claims(settings.s3) if settings.s3.is_given else None
    submitter.replies.collector = Collector(claims, settings.gateway.max_result_bytes)
    book = Book(
        BookParts(
            key=core.identity.key,
            directory=core.directory,
            jobs=lambda: stores.jobs,
            results=lambda: stores.results,
            positions=QueuePositions(core.admin),
            fetch=submitter.replies.collector.fetch,
        )
    )
    callers, following = Callers(settings.gateway, outside.keyring), Following(book, outside.streams)
    kept_s = settings.dispatcher.result_retention_s
    kept = KeptRequests(KeptParts(submitter, book, following, lambda: stores.keys, kept_s))
    rules = settings.webhooks.rules
    body = _body if claims is None else claims.body
    routes = [
        *jobs.routes(JobParts(callers, book, lambda: stores.jobs, following, submitter)),
        *responses.routes(ResponseParts(callers, book, following, submitter)),
        *webhooks.routes(WebhookParts(callers, lambda: stores.webhooks, outside.sender, rules)),
        *files.routes(files.Parts(callers, stores, outside.objects, settings.files)),
        *batches.routes(batches.Parts(callers, stores, outside.objects, body, submitter.gate.meter.check)),
    ]
    return More(callers, rules, kept, routes, Conversations(book))


async def _body(result: FinalResult) -> bytes:
    return result.body


def _signing_key(settings: Settings) -> bytes:
    if settings.secret_key is None:
        _log.warning(
            "HEADRACE_SECRET_KEY is not set: ids and signatures of this gateway mean nothing to others, and "
            "workers that have a secret refuse its requests"
        )
        return secrets.token_bytes(32)
    return signing_key(settings.secret_key.get_secret_value())


async def _together(
    serving: Coroutine[Any, Any, None],
    works: Sequence[Coroutine[Any, Any, None]],
    on_fault: Callable[[], None],
) -> None:
    """Serve, with the works beside it. One that fails ends the gateway: half of one would only hang."""
    server = asyncio.create_task(serving)
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait([server, *tasks], return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in tasks if task.done() and task.exception() is not None]
        if failed:
            on_fault()
        await server
        for task in failed:
            task.result()
    finally:
        for task in (server, *tasks):
            task.cancel()
        await asyncio.wait([server, *tasks])


async def _follow(reader: Reader, directory: Directory) -> None:
    while True:
        directory.update(await reader.poll(_POLL_S))


async def _end_drain(stop: asyncio.Event, drain_s: float, submitter: Submitter) -> None:
    """When the drain has taken its time, whoever still waits is told so; the server waits a moment longer."""
    await stop.wait()
    await asyncio.sleep(drain_s)
    submitter.give_up()
