"""Whether a server answers in its own protocol; an open port alone says little."""

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headrace.devstack.ports import HOST

_TIMEOUT_S: Final = 2.0
_MAX_FRAME_BYTES: Final = 1 << 20
# ApiVersions version 0: api key, version, correlation id, client id. Every broker ever answers it.
_API_VERSIONS: Final = struct.pack(">hhih7s", 18, 0, 1, 7, b"up-test")


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]


async def kafka_answers(port: int) -> bool:
    """Whether a Kafka broker serves clients on the port."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(struct.pack(">i", len(_API_VERSIONS)) + _API_VERSIONS)
                size, correlation, error = struct.unpack(">iih", await reader.readexactly(10))
                return 6 <= size <= _MAX_FRAME_BYTES and correlation == 1 and error == 0
            finally:
                writer.close()
    except (OSError, TimeoutError, EOFError):
        return False


async def http_get(port: int, path: str) -> Answer | None:
    """The head of what an HTTP server says; None when it does not answer."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
        return None
    return _parse(head.decode("latin-1"))


def _parse(head: str) -> Answer | None:
    first, *lines = head.split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/") or not status.isdigit():
        return None
    pairs = (line.partition(":") for line in lines if line)
    return Answer(int(status), {name.strip().lower(): value.strip() for name, _, value in pairs})
