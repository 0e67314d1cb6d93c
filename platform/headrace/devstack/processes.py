"""Child processes: started in sessions of their own, known by pid and start time, always stopped."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import psutil

from headrace.contracts.errors import SetupError
from headrace.settings import environment

MARK: Final = "_HEADRACE_STACK"
"""Variable that names the data folder to all processes of its stack; nothing reads it but `marked`."""
_LOG_BYTES: Final = 10 * 2**20
_IDENTITY_S: Final = 1.0
_SWEEP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """How to run a process.

    parent_pipe: it reads its standard input and ends when that ends, so it cannot outlive us.
    stop_s: how long it may take after SIGTERM before it is killed.
    litter: files elsewhere that it leaves behind.
    nice: how far it stands back when others want the same cores.
    """

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    parent_pipe: bool = False
    stop_s: float = 10.0
    litter: Sequence[str] = ()
    nice: int = 0


def role(name: str, variables: Mapping[str, str], stop_s: float, nice: int = 0) -> Service:
    """One of our own roles."""
    command = [sys.executable, "-m", "headrace", name, "--parent-pipe"]
    return Service(name, command, variables, parent_pipe=True, stop_s=stop_s, nice=nice)


class Child:
    """A running process of ours."""

    def __init__(self, service: Service, process: asyncio.subprocess.Process, log: Path) -> None:
        self.service = service
        self.process = process
        self.log = log
        self.started_s = time.monotonic()
        self.created_s = created_s(process.pid) or 0.0

    def record(self) -> dict[str, Any]:
        """The process as the state file lists it."""
        return {
            "name": self.service.name,
            "pid": self.process.pid,
            "created_s": self.created_s,
            "litter": list(self.service.litter),
        }

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL when it takes too long."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                async with asyncio.timeout(self.service.stop_s):
                    await self.process.wait()
            except TimeoutError:
                self.kill()
                await self.process.wait()
        _remove(self.service.litter)

    def kill(self) -> None:
        """SIGKILL, to all that it has started too."""
        if self.process.returncode is None:
            kill_tree(self.process.pid)


async def spawn(service: Service, log: Path) -> Child:
    """Start a process in a session of its own, so that Ctrl-C reaches only us; its output goes to `log`."""
    with _open_log(log) as output:
        process = await asyncio.create_subprocess_exec(
            *service.command,
            stdin=asyncio.subprocess.PIPE if service.parent_pipe else asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(service.variables),
            start_new_session=True,
        )
    if service.nice:
        _stand_back(process.pid, service.nice)
    return Child(service, process, log)


def _stand_back(pid: int, nice: int) -> None:
    """At once: threads that it starts later take after it."""
    with contextlib.suppress(psutil.NoSuchProcess, OSError):
        psutil.Process(pid).nice(nice)
        # A session may be a scheduling group of its own, beside which niceness within means nothing.
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def _open_log(log: Path) -> IO[bytes]:
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    return log.open("ab")


async def run(service: Service, say: Callable[[str], None] | None = None) -> str:
    """Run a process to its end; returns what it printed. `say` gets each line as it comes.

    Raises:
        SetupError: it failed; its last words are the reason.
    """
    process = await asyncio.create_subprocess_exec(
        *service.command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(service.variables),
        start_new_session=True,
    )
    try:
        output, errors = await asyncio.gather(_lines(process.stdout, say), _lines(process.stderr, None))
        code = await process.wait()
    except asyncio.CancelledError:
        if process.returncode is None:
            kill_tree(process.pid)
        await process.wait()
        raise
    if code != 0:
        reason = next((line for line in reversed(errors) if line.strip()), f"{service.name} said nothing")
        raise SetupError(sentence(reason))
    return "\n".join(output)


def sentence(reason: str) -> str:
    """A process's last words without the program's name in front."""
    head, colon, rest = reason.partition(": ")
    return rest if colon and head.split(" ")[0] == "headrace" else reason


async def _lines(stream: asyncio.StreamReader | None, say: Callable[[str], None] | None) -> list[str]:
    found: list[str] = []
    while stream is not None and (raw := await stream.readline()):
        found.append(raw.decode(errors="replace").rstrip())
        if say is not None:
            say(found[-1])
    return found


def last_words(log: Path) -> str:
    """The last line of a log that says something."""
    with contextlib.suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
        for line in reversed(lines):
            # Below a Java exception stand the calls that led to it.
            if line.strip() and not line.startswith("\t"):
                return line.strip()[:400]
    return "it said nothing"


def created_s(pid: int) -> float | None:
    """When the process was made; None when there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def is_alive(record: Mapping[str, Any]) -> bool:
    """Whether the recorded process still runs. A pid alone may have been given to another since."""
    found = created_s(int(record["pid"]))
    if found is None or abs(found - float(record["created_s"])) > _IDENTITY_S:
        return False
    try:
        return psutil.Process(int(record["pid"])).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def memory_bytes(pid: int) -> int | None:
    """Proportional set size: shared pages are counted in parts."""
    try:
        return int(psutil.Process(pid).memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return None


def _remove(litter: Iterable[str]) -> None:
    for path in litter:
        with contextlib.suppress(OSError):
            Path(path).unlink()


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and all its descendants."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        for process in [*top.children(recursive=True), top]:
            with contextlib.suppress(psutil.Error):
                process.kill()


def marked(folder: Path) -> list[psutil.Process]:
    """All processes that carry this data folder's mark, which every child and its children inherit.

    The state file may miss some: a worker whose scaler is gone, a deployment that was under way.
    """
    found = []
    for process in psutil.process_iter():
        # Other people's processes do not show their environment.
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


def sweep(folder: Path, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """End what an earlier supervisor of the data folder left; returns the names of what was found."""
    records = list(records)
    names = {int(record["pid"]): str(record["name"]) for record in records if is_alive(record)}
    victims = {process.pid: process for process in marked(folder)}
    for pid in names:
        with contextlib.suppress(psutil.Error):
            victims.setdefault(pid, psutil.Process(pid))
    for victim in victims.values():
        with contextlib.suppress(psutil.Error):
            victim.send_signal(signal.SIGTERM)
    _, late = psutil.wait_procs(list(victims.values()), timeout=_SWEEP_S)
    for victim in late:
        with contextlib.suppress(psutil.Error):
            victim.kill()
    psutil.wait_procs(late, timeout=_SWEEP_S)
    for record in records:
        _remove(record.get("litter", ()))
    return sorted({names.get(pid, "worker") for pid in victims})
