"""Wiring of a gateway."""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headrace.contracts.errors import HeadraceError
from headrace.contracts.identity import signing_key
from headrace.contracts.requests import INFER, INFER_URL, PATHS, ReplyAddress
from headrace.core.archive import FinalResult
from headrace.core.ports import Reader
from headrace.gateway import batches, files
from headrace.gateway.callers import Callers
from headrace.gateway.catalog import routes
from headrace.gateway.channel import Identity
from headrace.gateway.claims import Collector
from headrace.gateway.directory import Directory
from headrace.gateway.heartbeat import Heartbeat
from headrace.gateway.inference import Inference, is_infer
from headrace.gateway.problems import on_error, on_http_exception, on_refusal
from headrace.gateway.server import listen, serve
from headrace.gateway.submit import Submitter
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.registry.claims import Claims
from headrace.registry.objects import Objects
from headrace.settings import DatabaseSettings, GatewaySettings, Settings
from headrace.telemetry import metrics
from headrace.telemetry.gateway import GatewayTelemetry
from headrace.telemetry.setup import opened

if TYPE_CHECKING:
    from headrace.store.batches import Batches
    from headrace.store.database import Engine
    from headrace.store.files import Files

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve HTTP until `stop` is set, then drain."""
    topics = settings.kafka.topics
    async with AsyncExitStack() as stack:
        socket = stack.enter_context(listen(settings.gateway))
        async with Admin(settings.kafka) as admin:
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
        claims = Claims(settings.s3) if settings.s3.is_given else None
        submitter.replies.collector = Collector(claims, settings.gateway.max_result_bytes)
        more = _more(settings, stack, claims)
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
                submitter.replies.sweep(),
                heartbeat.regularly(),
                _end_drain(stop, settings.gateway.drain_s, submitter),
            ),
            on_fault,
        )


def _more(settings: Settings, stack: AsyncExitStack, claims: Claims | None) -> list[Route]:
    """What needs a database or a bucket."""
    stores, callers = _Stores(settings.database), Callers(settings.gateway)
    stack.push_async_callback(stores.close)
    objects = None
    if settings.s3.is_given:
        objects = Objects(settings.s3)
        stack.callback(objects.close)
    return [
        *files.routes(files.Parts(callers, stores, objects, settings.files)),
        *batches.routes(batches.Parts(callers, stores, objects, _body if claims is None else claims.body)),
    ]


async def _body(result: FinalResult) -> bytes:
    return result.body


class _Stores:
    """The database, opened when first asked for: most gateways of an embedded stack never do."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._engine: Engine | None = None

    @property
    def files(self) -> "Files":
        """What is known of files."""
        from headrace.store.files import Files  # noqa: PLC0415

        return Files(self._opened())

    @property
    def batches(self) -> "Batches":
        """Batches."""
        from headrace.store.batches import Batches  # noqa: PLC0415

        return Batches(self._opened())

    async def close(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            await self._engine.dispose()

    def _opened(self) -> "Engine":
        if self._engine is None:
            from headrace.store.database import open_engine  # noqa: PLC0415

            self._engine = open_engine(self._settings)
        return self._engine


class Front:
    """The ASGI application: the paths that carry the load at once, all others by Starlette.

    Starlette's two exception middlewares, router and wrapped `send` cost an inference request an eighth of
    the gateway's time (profiled at 64 at once); these paths need none of them.
    """

    def __init__(self, inference: Mapping[str, Inference], infer: Inference, rest: Starlette) -> None:
        self._inference = inference
        self._infer = infer
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._inference.get(scope["path"])
            if endpoint is None and is_infer(scope["path"]):
                endpoint = self._infer
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await self._rest(scope, receive, send)


def application(
    settings: GatewaySettings,
    submitter: Submitter,
    directory: Directory,
    is_ready: Callable[[], bool],
    telemetry: GatewayTelemetry | None = None,
    more: Sequence[Route] = (),
) -> Front:
    """Everything this gateway serves. `more`: what needs a database or a bucket."""
    telemetry = telemetry or GatewayTelemetry()
    callers = Callers(settings)
    inference = {path: Inference(path, submitter, callers, telemetry) for path in PATHS if path != INFER}
    infer = Inference(INFER, submitter, callers, telemetry)
    # Listed again, so that Starlette answers other methods with 405.
    listed = [Route(path, endpoint, methods=["POST"]) for path, endpoint in inference.items()]
    listed.append(Route(INFER_URL.replace("{model}", "{name:path}"), infer, methods=["POST"]))
    rest = Starlette(
        routes=[*listed, *more, *routes(directory, is_ready)],
        exception_handlers={HTTPException: on_http_exception, HeadraceError: on_refusal, Exception: on_error},
    )
    # A redirect has no request id, and no client of an API expects one.
    rest.router.redirect_slashes = False
    return Front(inference, infer, rest)


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
