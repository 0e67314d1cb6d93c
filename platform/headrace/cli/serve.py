"""Runs one role as a process: logging, event loop, signals, the parent's pipe."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from headrace.contracts.errors import SetupError
from headrace.kafka.connection import is_waiting
from headrace.settings import Settings, load
from headrace.telemetry.logs import configure

Role = Callable[[Settings, asyncio.Event], Awaitable[None]]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def serve(name: str, role: Role, *, parent_pipe: bool) -> None:
    """Run `role` until SIGTERM or SIGINT; with `parent_pipe` also until standard input ends.

    Ends the process with 1 and one sentence when the role cannot be set up.
    """
    import uvloop  # noqa: PLC0415  # `headrace --help` need not pay for it

    try:
        settings = load()
        configure(settings, name)
        uvloop.run(_until_stopped(role, settings, parent_pipe=parent_pipe))
    except SetupError as error:
        sys.stderr.write(f"headrace {name}: {error}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


async def _until_stopped(role: Role, settings: Settings, *, parent_pipe: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    running = asyncio.current_task()
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        stop.set()
        if asked > 1 and running is not None:
            running.cancel()  # the second time means now

    for number in _SIGNALS:
        loop.add_signal_handler(number, ask)
    if parent_pipe:
        # A thread, because standard input may be anything; it ends with the process.
        threading.Thread(target=_wait_for_end, args=(loop, stop.set), daemon=True).start()
    work = asyncio.ensure_future(role(settings, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        await _drain(work, settings)
    if not work.cancelled():
        work.result()


async def _drain(work: asyncio.Future[None], settings: Settings) -> None:
    """Let the role end by itself, unless it waits for a Kafka that may never come."""
    longest_s = max(settings.worker.drain_s, settings.gateway.drain_s, settings.scaler.drain_s) + 15.0
    if not is_waiting():
        await asyncio.wait({work}, timeout=longest_s)
    if not work.done():
        work.cancel()
        await asyncio.wait({work})


def _wait_for_end(loop: asyncio.AbstractEventLoop, tell: Callable[[], None]) -> None:
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        # Not through `sys.stdin`: a thread that holds its lock when the interpreter ends is a fatal error.
        while os.read(0, 1024):
            pass
        loop.call_soon_threadsafe(tell)
