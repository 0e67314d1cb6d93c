"""Wiring of a gateway."""

import asyncio
import hashlib
import logging
import os
import secrets
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import GatewayHeartbeat
from headrace.contracts.requests import PATHS, ReplyAddress
from headrace.core.ports import Outgoing
from headrace.gateway.catalog import routes
from headrace.gateway.directory import Directory
from headrace.gateway.inference import Inference
from headrace.gateway.problems import on_error, on_http_exception, problem
from headrace.gateway.server import listen, serve
from headrace.gateway.submit import Identity, Submitter
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import GatewaySettings, Settings

_log = logging.getLogger(__name__)

_HEARTBEAT_S: Final = 2.0
_POLL_S: Final = 1.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve HTTP until `stop` is set, then drain."""
    topics = settings.kafka.topics
    key = _signing_key(settings)
    async with AsyncExitStack() as stack:
        opened = stack.enter_context(listen(settings.gateway))
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
        identity = Identity(f"/gateways/{gateway_id}", key, ReplyAddress(topics.replies, partition), topics)
        submitter = Submitter(settings.gateway, identity, directory, producer)
        for work in (
            _follow(news, directory),
            submitter.replies.follow(replies),
            submitter.replies.sweep(),
            _beat(producer, topics.workers, gateway_id, partition),
        ):
            stack.callback(asyncio.create_task(work).cancel)
        app = application(settings.gateway, submitter, directory, lambda: not stop.is_set())
        host, port = opened.getsockname()[:2]
        _log.info("serving http://%s:%d, reply partition %d", host, port, partition)
        await serve(app, opened, settings.gateway, stop)
        await _take_off(producer, topics.workers, gateway_id)


class Front:
    """The ASGI application: the paths that carry the load at once, all others by Starlette.

    Starlette's two exception middlewares, router and wrapped `send` cost an inference request an eighth of
    the gateway's time (profiled at 64 at once); these paths need none of them.
    """

    def __init__(self, inference: Mapping[str, Inference], rest: Starlette) -> None:
        self._inference = inference
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._inference.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await self._rest(scope, receive, send)


def application(
    settings: GatewaySettings, submitter: Submitter, directory: Directory, is_ready: Callable[[], bool]
) -> Front:
    """Everything this gateway serves."""

    async def on_refusal(request: Request, error: Exception) -> Response:
        del request
        return problem(error) if isinstance(error, HeadraceError) else problem(HeadraceError(str(error)))

    inference = {path: Inference(path, submitter, settings) for path in PATHS}
    # Listed again, so that Starlette answers other methods with 405.
    listed = [Route(path, endpoint, methods=["POST"]) for path, endpoint in inference.items()]
    rest = Starlette(
        routes=[*listed, *routes(directory, is_ready)],
        exception_handlers={
            HTTPException: on_http_exception,
            HeadraceError: on_refusal,
            Exception: on_error,
        },
    )
    return Front(inference, rest)


def _signing_key(settings: Settings) -> bytes:
    if settings.secret_key is None:
        _log.warning("HEADRACE_SECRET_KEY is not set: ids of this gateway mean nothing to others")
        return secrets.token_bytes(32)
    # BLAKE2b takes keys of up to 64 bytes; the setting may be longer.
    return hashlib.sha256(settings.secret_key.get_secret_value().encode()).digest()


async def _follow(reader: PartitionReader, directory: Directory) -> None:
    while True:
        directory.update(await reader.poll(_POLL_S))


async def _beat(producer: Producer, topic: str, gateway_id: str, partition: int) -> None:
    while True:
        event = GatewayHeartbeat(
            id=gateway_id,
            pid=os.getpid(),
            host=socket.gethostname(),
            reply_partition=partition,
            sent_at_s=time.time(),
        )
        await _tell(producer, Outgoing(topic, event.encode(), gateway_id.encode()))
        await asyncio.sleep(_HEARTBEAT_S)


async def _take_off(producer: Producer, topic: str, gateway_id: str) -> None:
    await _tell(producer, Outgoing(topic, None, gateway_id.encode()))


async def _tell(producer: Producer, record: Outgoing) -> None:
    try:
        await producer.send(record)
    except HeadraceError as error:
        _log.warning("heartbeat not sent: %s", error)
