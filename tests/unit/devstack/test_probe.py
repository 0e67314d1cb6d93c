"""Probes, against small servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headrace.devstack.ports import HOST, free
from headrace.devstack.probe import Look, get, kafka_answers


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    running = await asyncio.start_server(handle, HOST, 0)
    async with running:
        yield running.sockets[0].getsockname()[1]


async def test_http_answer() -> None:
    async with server(b"HTTP/1.1 503 Busy\r\nX-Model-State: cold\r\n\r\nbody") as port:
        look = await get(port, "/")

    assert look == Look(503, {"x-model-state": "cold"}, "body")


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"HTTP/1.1\r\n\r\n"])
async def test_not_http(answer: bytes) -> None:
    async with server(answer) as port:
        assert (await get(port, "/")).status == 0


async def test_nobody_there() -> None:
    (port,) = free(1)

    assert (await get(port, "/")).status == 0
    assert not await kafka_answers(port)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 10])
async def test_not_kafka(answer: bytes) -> None:
    async with server(answer) as port:
        assert not await kafka_answers(port)


async def test_kafka() -> None:
    async with server(bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 0])) as port:
        assert await kafka_answers(port)
