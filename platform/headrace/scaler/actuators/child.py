"""A worker as a child process, for whichever actuator runs one: started, drained, watched, judged."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from headrace.contracts.events import BURIED, ENGINE_DIED
from headrace.core.journal import InFlight, read
from headrace.scaler.actuator import Cause, NewUnit
from headrace.settings import environment

_KILLS: Final = (signal.SIGKILL, signal.SIGTERM)
_SENT: Final = (*_KILLS, signal.SIGINT, signal.SIGHUP)
"""Signals that come from people and machines, not from faults."""


def judged(exit_code: int, *, is_stopping: bool = False) -> tuple[Cause, str]:
    """Why a worker process ended, and how in words; `exit_code` is negative for a signal.

    A signal that nobody sends, or the end of its engine, may be the doing of what it ran. is_stopping: it was
    told to end; of SIGTERM die only those that have not begun yet.
    """
    if exit_code == 0 or (is_stopping and exit_code == -signal.SIGTERM):
        return Cause.ASKED, "has ended"
    if exit_code == ENGINE_DIED:
        return Cause.CRASHED, "ended because its engine died"
    if exit_code == BURIED:
        return Cause.KILLED, "ended because others took it for dead"
    if exit_code > 0:
        return Cause.FAILED, f"ended with exit code {exit_code}"
    reason = f"was killed by signal {-exit_code}"
    if -exit_code in _KILLS:
        return Cause.KILLED, reason
    return (Cause.FAILED if -exit_code in _SENT else Cause.CRASHED), reason


class Ended(NamedTuple):
    """How a process ended: `exit_code` is negative for a signal; what it had in flight."""

    exit_code: int
    in_flight: Sequence[InFlight] = ()


class Child:
    """A worker process.

    It holds the read end of a pipe from us, so that it drains and ends when we are gone, however we go.
    """

    def __init__(self, process: asyncio.subprocess.Process, journal: Path) -> None:
        self._process = process
        self._journal = journal

    @classmethod
    async def spawn(
        cls,
        new: NewUnit,
        journal: Path,
        variables: Mapping[str, str] | None = None,
        python: Sequence[str] = (sys.executable,),
    ) -> "Child":
        """Start it. variables: beside those of our environment. python: the command that takes `-m`."""
        journal.parent.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(*python, "-m", "headrace", "worker", "--parent-pipe"),
            *("--model", new.model, "--version", new.version, "--id", new.id),
            *("--journal", str(journal)),
            stdin=asyncio.subprocess.PIPE,
            env=environment(variables or {}),
            start_new_session=True,
        )
        return cls(process, journal)

    @property
    def is_running(self) -> bool:
        """Whether its end has not been seen."""
        return self._process.returncode is None

    def drain(self) -> None:
        """Tell it to finish what it runs and end."""
        if self.is_running:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self.is_running:
            self._process.kill()

    async def wait(self) -> Ended:
        """Its end. Its journal is read then, and removed, as far as that can be done."""
        code = await self._process.wait()
        in_flight: Sequence[InFlight] = ()
        with contextlib.suppress(OSError):
            in_flight = read(self._journal.read_bytes())
            self._journal.unlink()
        return Ended(code, in_flight)
