"""The `process` actuator: workers as child processes on this machine, for the embedded stack."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Exit, NewUnit, Orders, Unit
from headrace.scaler.actuators.child import Child, judged
from headrace.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """A worker process, and what is told of it."""

    unit: Unit
    child: Child


def create(settings: Settings) -> "Processes":
    """As the catalog wants it."""
    return Processes(settings)


class Processes:
    """Starts, stops and watches worker processes. They end when we do."""

    names_units = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: dict[str, _Held] = {}
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

    async def lead(self, epoch: int) -> None:
        """Nobody else starts or ends our children."""

    async def stand_back(self) -> None:
        """Let every worker drain."""
        for worker_id in list(self._held):
            self._drain(worker_id)

    def units(self) -> Mapping[str, Unit]:
        """Processes that have not ended."""
        return {worker_id: held.unit for worker_id, held in self._held.items()}

    def exits(self) -> list[Exit]:
        """Those that ended since the last call."""
        found = []
        while not self._exits.empty():
            found.append(self._exits.get_nowait())
        return found

    async def act(self, orders: Orders) -> None:
        """Start and stop processes."""
        for ending in orders.ends:
            held = self._held.get(ending.unit_id)
            if held is not None and ending.force:
                held.unit = replace(held.unit, stopping=True)
                held.child.kill()
            else:
                self._drain(ending.unit_id)
        for new in orders.starts:
            await self._spawn(new)

    async def _spawn(self, new: NewUnit) -> None:
        journal = self._settings.cache_dir.expanduser() / "journals" / new.id
        try:
            child = await Child.spawn(new, journal)
        except OSError as error:
            raise Unavailable(f"Worker {new.id} cannot be started: {error}") from None
        held = _Held(Unit(new.id, new.model, new.version, time.time()), child)
        self._held[new.id] = held
        watcher = asyncio.create_task(self._watch(held))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    def _drain(self, worker_id: str) -> None:
        """Tell a worker to drain and end; it is killed when it has not after the scaler's `drain_s`."""
        held = self._held.get(worker_id)
        if held is None or held.unit.stopping:
            return
        held.unit = replace(held.unit, stopping=True)
        held.child.drain()
        asyncio.get_running_loop().call_later(self._settings.scaler.drain_s, self._expire, held)

    async def _watch(self, held: _Held) -> None:
        ended = await held.child.wait()
        del self._held[held.unit.id]
        cause, reason = judged(ended.exit_code, is_stopping=held.unit.stopping)
        self._exits.put_nowait(Exit(held.unit, cause, reason, time.time(), in_flight=ended.in_flight))
        self.changed.set()

    def _expire(self, held: _Held) -> None:
        if held.child.is_running:
            _log.warning("worker %s has not ended in time; killing it", held.unit.id)
            held.child.kill()
