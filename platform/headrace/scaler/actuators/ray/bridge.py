"""The scaler's end of the socket to its driver process."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from headrace.scaler.actuators.ray.messages import ASKS, WORDS, Ask, Word
from headrace.settings import environment

_DRIVER: Final = "headrace.scaler.actuators.ray.driver"
_LIMIT_BYTES: Final = 64 << 20
_END_S: Final = 3.0


class Bridge:
    """A driver that runs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def words(self) -> AsyncIterator[Word]:
        """What it says, until it is gone."""
        with contextlib.suppress(ConnectionError):
            async for line in self._reader:
                yield WORDS.validate_json(line)

    def ask(self, ask: Ask) -> None:
        """Say something to it."""
        self._writer.write(ASKS.dump_json(ask) + b"\n")

    def close(self) -> None:
        """Let it end."""
        self._writer.close()


@asynccontextmanager
async def bridge() -> AsyncIterator[Bridge]:
    """A driver of our own; what Ray prints there is in Ray's own logs, too."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _DRIVER, str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment({"RAY_USAGE_STATS_ENABLED": "0"}),
            start_new_session=True,
        )
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LIMIT_BYTES)
    found = Bridge(reader, writer)
    try:
        yield found
    finally:
        found.close()
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
