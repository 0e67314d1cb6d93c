"""Real parts for tests: a Kafka of this test session, and whole running stacks."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from headrace.devstack.broker import Broker
from headrace.devstack.distribution import Distribution
from headrace.devstack.ports import HOST, free
from headrace.devstack.probe import kafka_answers
from headrace.devstack.processes import marked
from headrace.settings import load

ROOT: Final = Path(__file__).parents[1]
ECHO: Final = ROOT / "functions" / "echo"
START_S: Final = 120.0
"""Long enough for a busy machine that fetches Kafka first."""


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of an empty broker; all tests share it, so name topics and groups by the test."""
    port, controller_port = free(2)
    folder = tmp_path_factory.mktemp("kafka")
    distribution = Distribution(load().cache_dir.expanduser())
    service = asyncio.run(Broker(folder, distribution, port, controller_port).prepare(say=print))
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(service.command, stdout=output, stderr=output)

    def is_ready() -> bool:
        if process.poll() is not None:
            pytest.fail(f"Kafka did not start:\n{log.read_text(errors='replace')[-4000:]}")
        return asyncio.run(kafka_answers(port))

    try:
        wait_until(is_ready, "Kafka to answer")
        yield f"{HOST}:{port}"
    finally:
        _end(process, service.stop_s)


class Stack:
    """A `headrace up` on free ports, with its data in `folder`."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        functions: Sequence[Path] = (ECHO,),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = dict(settings or {})
        self.data_dir = folder / "data"
        self._ready_file = folder / "ready.json"
        self._log = folder / "up.log"
        self.ready: dict[str, Any] = {}
        self._command = [sys.executable, "-m", "headrace", "up", "--data-dir", str(self.data_dir)]
        for path in functions:
            self._command += ["--functions", str(path)]
        self._command += ["--http-port", "0", "--kafka-port", "0", "--s3-port", "0"]
        self._command += ["--ready-file", str(self._ready_file), *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def http_url(self) -> str:
        return str(self.ready["http_url"])

    @property
    def kafka_bootstrap_servers(self) -> str:
        return str(self.ready["kafka_bootstrap_servers"])

    @property
    def pids(self) -> dict[str, int]:
        return dict(self.ready["pids"])

    @property
    def said(self) -> str:
        """What `headrace up` has printed."""
        return self._log.read_text(errors="replace")

    def begin(self) -> None:
        """Start without waiting."""
        self._ready_file.unlink(missing_ok=True)
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, env=_environment() | self._settings
            )

    def start(self) -> dict[str, Any]:
        """Start and wait until it is ready; gives the ready file."""
        self.begin()
        wait_until(self._is_ready, "the stack to be ready")
        self.ready = json.loads(self._ready_file.read_text())
        return self.ready

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"`headrace up` ended with {self._process.returncode}:\n{self.said[-4000:]}")
        return self._ready_file.exists()

    def wait(self) -> int:
        """Wait for `headrace up` to end; gives its exit code."""
        assert self._process is not None
        return self._process.wait(timeout=START_S)

    def stop(self) -> int | None:
        """Ask it to stop and wait; whatever it leaves is ended, so that a failing test leaves nothing."""
        code = None if self._process is None else _end(self._process, START_S)
        for process in marked(self.data_dir):
            process.kill()
        return code

    def kill(self) -> None:
        """SIGKILL to the supervisor alone."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def deploy(self, path: Path) -> None:
        """Deploy a function and wait until a worker is ready."""
        done = self.run("deploy", "--json", str(path))
        assert done.returncode == 0, done.stderr
        name = json.loads(done.stdout)["name"]
        wait_until(
            lambda: any(w["model"] == name and w["state"] == "ready" for w in self.status()["workers"]),
            f"a worker of {name}",
        )

    def status(self) -> dict[str, Any]:
        """What `headrace status --json` says, once Kafka answers."""
        until_s = time.monotonic() + START_S
        while True:
            found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
            if found["workers"] is not None:
                return found
            assert time.monotonic() < until_s, "Kafka does not answer"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `headrace` command on this stack."""
        return subprocess.run(
            [sys.executable, "-m", "headrace", *arguments, "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
            env=_environment(),
        )

    def processes(self) -> list[psutil.Process]:
        """Every living process of the stack but its supervisor."""
        return [p for p in marked(self.data_dir) if p.status() != psutil.STATUS_ZOMBIE]


class Second:
    """Another gateway beside the stack's own."""

    def __init__(self, stack: Stack) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        state = json.loads((stack.data_dir / "run" / "stack.json").read_text())
        environment = os.environ | state["environment"] | {"HEADRACE_GATEWAY_PORT": str(port)}
        self.process = subprocess.Popen([sys.executable, "-m", "headrace", "gateway"], env=environment)
        wait_until(self._is_ready, "the second gateway")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None
        try:
            return httpx.get(f"{self.url}/v2/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop; gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack with `functions/echo`; all tests share it, so leave its processes alone."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def wait_until(is_so: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Poll until it is so; fails the test when it takes too long."""
    until_s = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > until_s:
            pytest.fail(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.05)


def _environment() -> dict[str, str]:
    """Ours, without settings that would replace embedded parts."""
    kept = ("HEADRACE_CACHE_DIR",)
    return {n: v for n, v in os.environ.items() if not n.startswith("HEADRACE_") or n in kept}


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
