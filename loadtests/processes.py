"""Child processes: start, stop, and what each of them costs."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import psutil

from headrace.settings import environment

ROOT: Final = Path(__file__).parents[1]
_STOP_S: Final = 90.0
"""Longer than a stack takes to drain: its supervisor, killed, would leave its children behind."""


class Child:
    """A Python process of ours, in a session of its own, with a pipe that tells it when we are gone."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, *arguments: str, changes: Mapping[str, str] | None = None) -> Self:
        """Run `python arguments...` in the repository root; what it prints goes to our standard error.

        changes: to the environment.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=sys.stderr,
            start_new_session=True,
            env=environment(changes or {}),
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def stop(self) -> None:
        """Terminate it and wait; kill it when it does not end by itself."""
        if self.exit_code is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def cpu_s(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds that each living process has used so far, its user and system time together."""
    used = {}
    for name, pid in pids.items():
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        used[name] = times.user + times.system
    return used


def workers_below(pid: int) -> dict[str, int]:
    """The worker processes that descend from a scaler, by a name for each."""
    found = [child for child in psutil.Process(pid).children(recursive=True) if "worker" in child.cmdline()]
    return {f"worker {number}": child.pid for number, child in enumerate(found, start=1)}
