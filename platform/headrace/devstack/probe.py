"""Is it up? A look at HTTP and Kafka servers, without their libraries: the supervisor stays small."""

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Final

from headrace.devstack.ports import HOST

# ApiVersions version 0: api key, version, correlation id, client id. Brokers of every age answer it.
_API_VERSIONS: Final = struct.pack(">hhih2s", 18, 0, 1, 2, b"up")


@dataclass(frozen=True, slots=True)
class Look:
    """What a server answered; status 0: nothing."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


async def get(port: int, path: str, timeout_s: float = 5.0) -> Look:
    """GET a path on this machine."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Look()
    lines = head.split("\r\n")
    words = lines[0].split(" ")
    if len(words) < 2 or not words[1].isdigit():
        return Look()
    pairs = (line.partition(":") for line in lines[1:])
    return Look(int(words[1]), {name.lower(): value.strip() for name, _, value in pairs}, body)


async def kafka_answers(port: int, timeout_s: float = 5.0) -> bool:
    """Whether a Kafka broker on this machine serves clients; its port is open a moment before that."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(struct.pack(">i", len(_API_VERSIONS)) + _API_VERSIONS)
                _, correlation_id, error = struct.unpack(">iih", await reader.readexactly(10))
            finally:
                writer.close()
    except (OSError, TimeoutError, EOFError):
        return False
    return (correlation_id, error) == (1, 0)
