"""A Ray cluster of several nodes on this machine, each with an address of its own on the loopback device.

Its GPUs are only declared: Ray counts what it is told, and nothing that runs here looks for one.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil
import pytest
from tests.parts import lacks
from tests.stack import wait_until

from headrace.devstack.ports import free

GPUS: Final = 2
"""Of each node but the head, which has none."""
_HEAD: Final = "127.0.0.2"  # Ray takes 127.0.0.1 for a name of the machine's own address
_NODES: Final = ("127.0.0.3", "127.0.0.4")
_STORE_BYTES: Final = 80_000_000
_HASTE: Final = {
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""No processes in advance; a silent node is soon taken for dead, as docs/operations/ray.md says."""
_START_S: Final = 60.0
_TIMES: Final = 3


class Cluster:
    """A head and two nodes."""

    def __init__(self) -> None:
        if find_spec("ray") is None:
            lacks("Ray is not installed here: make test-ray")
        # Short, for it becomes part of names of sockets.
        self._folder = Path(tempfile.mkdtemp(prefix="hr-"))
        (self._port,) = free(1)
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return f"{_HEAD}:{self._port}"

    @property
    def nodes(self) -> tuple[str, ...]:
        return _NODES

    def start(self) -> None:
        """Start all that is not running."""
        for ip in (_HEAD, *_NODES):
            if ip not in self._nodes:
                self._start(ip)

    def _start(self, ip: str) -> None:
        # Ray gives a node 15 seconds for its first steps, which a busy machine may need for other things.
        for _ in range(_TIMES):
            self._begin(ip)
            if self._has_begun(ip):
                return
            self._end(ip)
        pytest.fail(f"Ray's node {ip} did not start:\n{self._said(ip)[-4000:]}")

    def _begin(self, ip: str) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        command += [f"--node-ip-address={ip}", f"--object-store-memory={_STORE_BYTES}"]
        if ip == _HEAD:
            command += ["--head", f"--port={self._port}", "--include-dashboard=false"]
            command += ["--num-cpus=0", "--num-gpus=0", f"--temp-dir={self._folder}"]
        else:
            command += [f"--address={self.address}", f"--num-cpus={GPUS}", f"--num-gpus={GPUS}"]
        with self._log(ip).open("wb") as output:
            self._nodes[ip] = subprocess.Popen(
                command, stdout=output, stderr=output, env=_environment(), start_new_session=True
            )

    def _has_begun(self, ip: str) -> bool:
        """Wait for it: two that start at once take the same name for their sockets."""
        node = self._nodes[ip]
        begun = "runtime started"
        wait_until(lambda: begun in self._said(ip) or node.poll() is not None, f"Ray's node {ip}", _START_S)
        return begun in self._said(ip)

    def _log(self, ip: str) -> Path:
        return self._folder.with_suffix(f".{ip}.log")

    def _said(self, ip: str) -> str:
        return self._log(ip).read_text(errors="replace")

    def kill(self, ip: str) -> None:
        """SIGKILL to what makes a node a node; what it has started ends by itself, or does not."""
        (raylet,) = (each for each in _below(self._nodes[ip]) if each.name() == "raylet")
        raylet.kill()
        self._end(ip)

    def node_of(self, process: psutil.Process) -> str:
        """The address of the node that it runs on."""
        above = (word for each in process.parents() for word in each.cmdline())
        return next(word.partition("=")[2] for word in above if word.startswith("--node_ip_address="))

    def actors(self, name: str) -> list[psutil.Process]:
        """Processes of actors of a class."""
        found = []
        for node in self._nodes.values():
            for process in _below(node):
                with contextlib.suppress(psutil.Error):
                    if process.cmdline()[:1] and process.cmdline()[0].startswith(f"ray::{name}"):
                        found.append(process)
        return found

    def stop(self) -> None:
        """End it, and whatever it has started."""
        for ip in reversed(list(self._nodes)):
            self._end(ip)

    def close(self) -> None:
        """Stop, and leave nothing."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        for log in self._folder.parent.glob(f"{self._folder.name}.*.log"):
            log.unlink()

    def _end(self, ip: str) -> None:
        node = self._nodes.pop(ip)
        for process in _below(node):
            with contextlib.suppress(psutil.Error):
                process.kill()
        node.kill()
        node.wait()


def _below(node: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(node.pid).children(recursive=True)
    return []


def _environment() -> dict[str, str]:
    """Ours without settings, for nodes have none of the scaler's."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "RAY_"))}
    return ours | _HASTE
