"""The actor in which one worker runs: as a child process, whose exit code and journal it sees."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from headrace.scaler.actuator import NewUnit, Unit
from headrace.scaler.actuators.child import Child, Ended

_LEASHED: Final = (
    "import ctypes, os, sys;"
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 9);"  # PR_SET_PDEATHSIG, SIGKILL
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""A worker whose actor has died is told dead, so it must not go on draining: others run what it had."""


_LOOK_S: Final = 0.2


class WorkerActor:
    """Lives until the ledger has seen the end of its worker. Every method may be called again."""

    def __init__(self, new: NewUnit, variables: Mapping[str, str]) -> None:
        self._new = new
        self._variables = variables
        self._unit = Unit(new.id, new.model, new.version, time.time())
        self._child: Child | None = None
        self._life: asyncio.Task[Ended] | None = None

    async def describe(self) -> Unit:
        """Who it is; an actor that waits for resources does not answer."""
        return self._unit

    async def run(self) -> Ended:
        """Start the worker, and wait for its end."""
        if self._life is None:
            self._life = asyncio.create_task(self._live())
        return await asyncio.shield(self._life)

    async def drain(self, drain_s: float) -> None:
        """Tell the worker to end; it is killed when it has not after `drain_s`."""
        if self._unit.stopping:
            return
        self._unit = replace(self._unit, stopping=True)
        if self._child is not None:
            self._child.drain()
        asyncio.get_running_loop().call_later(drain_s, self._kill)

    async def kill(self) -> None:
        """End the worker at once."""
        self._unit = replace(self._unit, stopping=True)
        self._kill()

    async def _live(self) -> Ended:
        if self._is_stopping():
            return Ended(0)
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            python = (sys.executable, "-c", _LEASHED)
            self._child = await Child.spawn(self._new, Path(folder) / "journal", self._variables, python)
            if self._is_stopping():
                self._child.drain()
            watching = asyncio.create_task(self._die_with_node())
            try:
                return await self._child.wait()
            finally:
                watching.cancel()

    async def _die_with_node(self) -> None:
        """Ray ends us when our node has died, but not before others may hear that we are dead."""
        node = os.getppid()
        while os.getppid() == node:
            await asyncio.sleep(_LOOK_S)
        self._kill()

    def _is_stopping(self) -> bool:
        return self._unit.stopping

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
