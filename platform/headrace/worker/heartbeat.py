"""Tells the world that this worker lives, in what state, and by which name its group knows it."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import WorkerHeartbeat, WorkerState
from headrace.contracts.tensors import Signature
from headrace.core.occupancy import Occupied
from headrace.core.ports import Outgoing, Publisher
from headrace.worker.canary import Health

_log = logging.getLogger(__name__)

_IDLE: Final = Occupied()
_UNPROVEN: Final = Health()


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Which worker this is: its own id, and what it is to serve. `journal`: file for what is in flight.

    version: empty for the one that is deployed. unit: what it runs in, where that has a name of its own.
    """

    id: str
    model: str
    version: str
    journal: Path | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """What changes from beat to beat."""

    in_flight: int = 0
    capacity: int = 0
    completed: int = 0
    tokens: int = 0
    tokens_out: int = 0
    body_bytes: int = 0
    settled: int = 0
    occupied: Occupied = _IDLE
    member_id: str | None = None
    group: str | None = None
    signature: Signature | None = None
    running: tuple[str, ...] = ()
    health: Health = _UNPROVEN


class Heartbeat:
    """Publishes on `workers` at every change of state, and regularly."""

    def __init__(self, publisher: Publisher, topic: str, spec: WorkerSpec) -> None:
        self._publisher = publisher
        self._topic = topic
        self._spec = spec
        self._started_at_s = time.time()
        self._state = WorkerState.STARTING
        self._reason: str | None = None
        self.vitals: Callable[[], Vitals] = Vitals

    async def become(self, state: WorkerState, reason: str | None = None) -> None:
        """Change state and say so."""
        self._state, self._reason = state, reason
        await self.beat()

    async def beat(self) -> None:
        """Say so once. A beat that cannot be sent is only logged: the next one follows."""
        vitals = self.vitals()
        event = WorkerHeartbeat(
            id=self._spec.id,
            pid=os.getpid(),
            host=socket.gethostname(),
            model=self._spec.model,
            version=self._spec.version,
            state=self._state,
            in_flight=vitals.in_flight,
            capacity=vitals.capacity,
            completed=vitals.completed,
            tokens=vitals.tokens,
            tokens_out=vitals.tokens_out,
            body_bytes=vitals.body_bytes,
            settled=vitals.settled,
            busy_s=vitals.occupied.busy_s,
            slot_s=vitals.occupied.slot_s,
            held_s=vitals.occupied.held_s,
            member_id=vitals.member_id,
            group=vitals.group,
            started_at_s=self._started_at_s,
            sent_at_s=time.time(),
            reason=self._reason,
            signature=vitals.signature,
            running=vitals.running,
            unit=self._spec.unit,
            canary_at_s=vitals.health.at_s,
            canary_s=vitals.health.took_s,
            ailing=vitals.health.ailing,
        )
        await self._send(event.encode())

    async def regularly(self, interval_s: float) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.beat()

    async def end(self) -> None:
        """Take the worker off the list."""
        await self._send(None)

    async def _send(self, value: bytes | None) -> None:
        try:
            await (await self._publisher.send(Outgoing(self._topic, value, self._spec.id.encode())))
        except HeadraceError as error:
            _log.warning("heartbeat not sent: %s", error)
