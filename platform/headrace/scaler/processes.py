"""The `process` actuator: workers as child processes on this machine, for the embedded stack."""

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace.contracts.events import ENGINE_DIED
from headrace.core.journal import InFlight, read
from headrace.settings import Settings, environment

_log = logging.getLogger(__name__)

_SENT: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that come from people and machines, not from faults."""


@dataclass(slots=True)
class Child:
    """A worker process that has not ended. `stopping`: it was told to."""

    id: str
    model: str
    version: str
    started_at_s: float
    process: asyncio.subprocess.Process
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """A worker process that ended; `exit_code` is negative for a signal.

    in_flight: what it ran when it crashed.
    """

    child: Child
    exit_code: int
    in_flight: Sequence[InFlight] = ()

    @property
    def asked(self) -> bool:
        """Whether it was told to drain, by us or by somebody else; it has left nothing behind."""
        return self.exit_code == 0

    @property
    def killed(self) -> bool:
        """Whether somebody else ended it: no fault of the model, so no reason to wait."""
        return self.exit_code in (-signal.SIGKILL, -signal.SIGTERM)

    @property
    def crashed(self) -> bool:
        """Whether what it ran may have ended it: its engine died, or a signal that nobody sends."""
        return self.exit_code == ENGINE_DIED or (self.exit_code < 0 and -self.exit_code not in _SENT)

    @property
    def reason(self) -> str:
        """How it ended, in words."""
        if self.exit_code < 0:
            return f"was killed by signal {-self.exit_code}"
        if self.exit_code == ENGINE_DIED:
            return "ended because its engine died"
        return f"ended with exit code {self.exit_code}"


class Processes:
    """Starts, stops and watches worker processes.

    Each holds the read end of a pipe from us, so that it drains and ends when we are gone, however we go.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: dict[str, Child] = {}
        self._exits: asyncio.Queue[Exit] = asyncio.Queue()
        self._watchers: set[asyncio.Task[None]] = set()
        self.changed = asyncio.Event()

    @property
    def children(self) -> Mapping[str, Child]:
        """Those that have not ended, by worker id."""
        return self._children

    async def start(self, worker_id: str, model: str, version: str, now_s: float) -> None:
        """Start a worker."""
        self._journal(worker_id).parent.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", "worker", "--parent-pipe"),
            *("--model", model, "--version", version, "--id", worker_id),
            *("--journal", str(self._journal(worker_id))),
            stdin=asyncio.subprocess.PIPE,
            env=environment({}),
            start_new_session=True,
        )
        child = Child(worker_id, model, version, now_s, process)
        self._children[worker_id] = child
        watcher = asyncio.create_task(self._watch(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    def stop(self, worker_id: str) -> None:
        """Tell a worker to drain and end; kill it when it has not after the scaler's `drain_s`."""
        child = self._children.get(worker_id)
        if child is None or child.stopping:
            return
        child.stopping = True
        child.process.terminate()
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.scaler.drain_s, self._kill, child)

    def exits(self) -> list[Exit]:
        """Those that ended since the last call."""
        found = []
        while not self._exits.empty():
            found.append(self._exits.get_nowait())
        return found

    async def stop_all(self) -> None:
        """Drain every worker; returns when none is left."""
        for worker_id in list(self._children):
            self.stop(worker_id)
        if self._watchers:
            await asyncio.wait(self._watchers, timeout=self._settings.scaler.drain_s + 5)

    async def _watch(self, child: Child) -> None:
        code = await child.process.wait()
        del self._children[child.id]
        journal = self._journal(child.id)
        in_flight = read(journal.read_bytes()) if journal.exists() else ()
        journal.unlink(missing_ok=True)
        self._exits.put_nowait(Exit(child, code, in_flight))
        self.changed.set()

    def _journal(self, worker_id: str) -> Path:
        """Where a worker says what it has in flight."""
        return self._settings.cache_dir.expanduser() / "journals" / worker_id

    def _kill(self, child: Child) -> None:
        if child.process.returncode is None:
            _log.warning("worker %s has not drained in time; killing it", child.id)
            child.process.kill()
