"""Builds the arms round a stack: starts the bare processes, makes topics, and clears up."""

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from headrace.contracts.topics import Lane, Topics, slug
from loadtests.answers import Shape, request_text, response_text, stream_text
from loadtests.arms import Arm, HttpArm, KafkaArm
from loadtests.kafka_client import KafkaClient, Route, create_topics, delete_topics
from loadtests.processes import Child
from loadtests.scenarios import (
    ANSWERS,
    DIRECT,
    FASTAPI,
    FASTAPI_STREAM,
    HEADRACE,
    HEADRACE_STREAM,
    TWO_HOP,
    Scenario,
)
from loadtests.stack import StackError, Target

_START_S: Final = 20.0
_PARTITIONS: Final = 4
"""Of the bare loop's request topic: as the embedded stack's lanes have."""


@asynccontextmanager
async def arms(target: Target, scenarios: tuple[Scenario, ...]) -> AsyncIterator[dict[str, Arm]]:
    """The arms that the scenarios need, ready to ask; their processes and topics go at the end."""
    wanted = {name for scenario in scenarios for name in scenario.arms}
    async with AsyncExitStack() as stack:
        built = _headrace_http(target)
        if wanted & {FASTAPI, FASTAPI_STREAM}:
            whole = await fastapi(stack, target)
            shape = Shape(target.model, stream_text, stream=True)
            built += [whole, HttpArm(FASTAPI_STREAM, whole.url, shape, whole.pids)]
        if wanted & {DIRECT, TWO_HOP, ANSWERS}:
            built += await _kafka(stack, target)
        yield {arm.name: arm for arm in built if arm.name in wanted}


def _headrace_http(target: Target) -> list[Arm]:
    return [
        HttpArm(HEADRACE, target.http_url, Shape(target.model, response_text), target.pids),
        HttpArm(HEADRACE_STREAM, target.http_url, Shape(target.model, stream_text, stream=True), target.pids),
    ]


async def fastapi(stack: AsyncExitStack, target: Target) -> HttpArm:
    """The bare endpoint, in a process of its own that ends with `stack`."""
    port = _free_port()
    child = await Child.start("-m", "loadtests.bare_http", str(port))
    stack.push_async_callback(child.stop)
    await _wait_for_port(child, port)
    url, pids = f"http://127.0.0.1:{port}", {"fastapi": child.pid}
    return HttpArm(FASTAPI, url, Shape(target.model, response_text), pids)


async def _kafka(stack: AsyncExitStack, target: Target) -> list[Arm]:
    run = f"loadtests.{uuid.uuid4().hex[:8]}"
    # Callers may name reply topics that end so; see WorkerSettings.reply_topics.
    replies, servers = f"{run}.replies", target.bootstrap_servers
    await create_topics(servers, {replies: 1})
    stack.push_async_callback(delete_topics, servers, [replies])
    requests = Topics().requests(slug(target.model), Lane.DEFAULT)
    direct = await _client(stack, Route(servers, requests, replies))
    return [
        KafkaArm(DIRECT, direct, Shape(target.model, response_text), target.pids),
        await _bare_loop(stack, target, TWO_HOP, f"{run}.bare"),
        await _bare_loop(stack, target, ANSWERS, f"{run}.large", size="answer"),
    ]


async def _bare_loop(
    stack: AsyncExitStack, target: Target, name: str, prefix: str, size: str = "same"
) -> KafkaArm:
    servers = target.bootstrap_servers
    topics = {f"{prefix}.requests": _PARTITIONS, f"{prefix}.replies": 1}
    await create_topics(servers, topics)
    stack.push_async_callback(delete_topics, servers, list(topics))
    child = await Child.start("-m", "loadtests.bare_kafka", servers, *topics, size)
    stack.push_async_callback(child.stop)
    client = await _client(stack, Route(servers, f"{prefix}.requests", f"{prefix}.replies"))
    broker = {name: pid for name, pid in target.pids.items() if name in {"kafka", "broker"}}
    return KafkaArm(name, client, Shape(target.model, request_text), broker | {"bare loop": child.pid})


async def _client(stack: AsyncExitStack, route: Route) -> KafkaClient:
    client = KafkaClient(route)
    stack.push_async_callback(client.stop)
    await client.start()
    return client


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def _wait_for_port(child: Child, port: int) -> None:
    try:
        async with asyncio.timeout(_START_S):
            while True:
                if child.exit_code is not None:
                    raise StackError("the bare FastAPI endpoint did not start; its own message is above")
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return
    except TimeoutError:
        raise StackError(f"the bare FastAPI endpoint did not answer within {_START_S:.0f} s") from None


def own_pid() -> dict[str, int]:
    """This process, whose cost is in every figure too."""
    return {"client": os.getpid()}
