"""The `process` actuator: workers as child processes on this machine, for the embedded stack."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from headrace.contracts.events import ENGINE_DIED
from headrace.core.journal import read
from headrace.scaler.actuator import Cause, Exit, NewUnit, Orders, Unit
from headrace.settings import Settings, environment

_log = logging.getLogger(__name__)

_KILLS: Final = (signal.SIGKILL, signal.SIGTERM)
_SENT: Final = (*_KILLS, signal.SIGINT, signal.SIGHUP)
"""Signals that come from people and machines, not from faults."""


@dataclass(slots=True)
class _Child:
    """A worker process, and what is told of it."""

    unit: Unit
    process: asyncio.subprocess.Process


def judged(exit_code: int) -> tuple[Cause, str]:
    """Why a worker process ended, and how in words; `exit_code` is negative for a signal.

    A signal that nobody sends, or the end of its engine, may be the doing of what it ran.
    """
    if exit_code == 0:
        return Cause.ASKED, "has ended"
    if exit_code == ENGINE_DIED:
        return Cause.CRASHED, "ended because its engine died"
    if exit_code > 0:
        return Cause.FAILED, f"ended with exit code {exit_code}"
    reason = f"was killed by signal {-exit_code}"
    if -exit_code in _KILLS:
        return Cause.KILLED, reason
    return (Cause.FAILED if -exit_code in _SENT else Cause.CRASHED), reason


class Processes:
    """Starts, stops and watches worker processes.

    Each holds the read end of a pipe from us, so that it drains and ends when we are gone, however we go.
    """

    names_units = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: dict[str, _Child] = {}
        self._exits: asyncio.Queue[Exit] = asyncio.Queue()
        self._watchers: set[asyncio.Task[None]] = set()
        self.changed = asyncio.Event()

    async def start(self) -> None:
        """Nothing is there before us."""

    async def stop(self) -> None:
        """Drain every worker; returns when none is left."""
        await self.stand_back()
        if self._watchers:
            await asyncio.wait(self._watchers, timeout=self._settings.scaler.drain_s + 5)

    async def stand_back(self) -> None:
        """Let every worker drain."""
        for worker_id in list(self._children):
            self._drain(worker_id)

    def units(self) -> Mapping[str, Unit]:
        """Processes that have not ended."""
        return {worker_id: child.unit for worker_id, child in self._children.items()}

    def exits(self) -> list[Exit]:
        """Those that ended since the last call."""
        found = []
        while not self._exits.empty():
            found.append(self._exits.get_nowait())
        return found

    async def act(self, orders: Orders) -> None:
        """Start and stop processes."""
        for ending in orders.ends:
            self._drain(ending.unit_id)
            if ending.force and ending.unit_id in self._children:
                self._kill(self._children[ending.unit_id])
        for new in orders.starts:
            await self._spawn(new)

    async def _spawn(self, new: NewUnit) -> None:
        journal = self._journal(new.id)
        journal.parent.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", "worker", "--parent-pipe"),
            *("--model", new.model, "--version", new.version, "--id", new.id),
            *("--journal", str(journal)),
            stdin=asyncio.subprocess.PIPE,
            env=environment({}),
            start_new_session=True,
        )
        child = _Child(Unit(new.id, new.model, new.version, time.time()), process)
        self._children[new.id] = child
        watcher = asyncio.create_task(self._watch(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    def _drain(self, worker_id: str) -> None:
        """Tell a worker to drain and end; it is killed when it has not after the scaler's `drain_s`."""
        child = self._children.get(worker_id)
        if child is None or child.unit.stopping:
            return
        child.unit = replace(child.unit, stopping=True)
        child.process.terminate()
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.scaler.drain_s, self._kill, child)

    async def _watch(self, child: _Child) -> None:
        code = await child.process.wait()
        del self._children[child.unit.id]
        journal = self._journal(child.unit.id)
        in_flight = read(journal.read_bytes()) if journal.exists() else ()
        journal.unlink(missing_ok=True)
        cause, reason = judged(code)
        self._exits.put_nowait(Exit(child.unit, cause, reason, time.time(), in_flight=in_flight))
        self.changed.set()

    def _journal(self, worker_id: str) -> Path:
        """Where a worker says what it has in flight."""
        return self._settings.cache_dir.expanduser() / "journals" / worker_id

    def _kill(self, child: _Child) -> None:
        if child.process.returncode is None:
            _log.warning("worker %s has not ended in time; killing it", child.unit.id)
            child.process.kill()
