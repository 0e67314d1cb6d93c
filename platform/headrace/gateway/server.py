"""uvicorn, told what to do by us: our socket, our signals, our drain."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from headrace.contracts.errors import SetupError
from headrace.settings import GatewaySettings

_LAST_WORDS_S: Final = 2


def listen(settings: GatewaySettings) -> socket.socket:
    """Open the port, so that a taken one is told before anything else starts.

    Raises:
        SetupError: the port is taken or may not be used.
    """
    opened = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((settings.host, settings.port))
    except OSError as error:
        opened.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise SetupError(
            f"Port {settings.port} on {settings.host} {why}; choose another by HEADRACE_GATEWAY_PORT"
        ) from None
    opened.setblocking(False)
    return opened


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the role."""
        yield


async def serve(app: ASGIApp, opened: socket.socket, settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then let running requests finish, at most for `drain_s`."""
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=75,
        # Longer than the drain, at whose end every caller still waiting gets an answer from us.
        timeout_graceful_shutdown=int(settings.drain_s) + _LAST_WORDS_S,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[opened]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving
