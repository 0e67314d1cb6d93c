"""KEDA's own protocol and documents, from its Go module, for tests that play KEDA."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

from tests.parts import lacks, require

_MODULE: Final = "github.com/kedacore/keda/v2@v2.21.0"
_PROTO: Final = Path("pkg/scalers/externalscaler/externalscaler.proto")


class Protocol(NamedTuple):
    """Generated modules: messages, and the client's stub."""

    messages: ModuleType
    stubs: ModuleType


def compiled(folder: Path) -> Protocol:
    """The protocol, by protoc into `folder`; a named skip where there is no Go to fetch it."""
    folder.mkdir(exist_ok=True)
    source = fetched(folder) / _PROTO
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={source.parent}"),
            *(f"--python_out={folder}", f"--grpc_python_out={folder}", source.name),
        ],
        check=True,
        timeout=60,
    )
    sys.path.insert(0, str(folder))  # the stubs import the messages by their name
    try:
        messages = importlib.import_module("externalscaler_pb2")
        return Protocol(messages, importlib.import_module("externalscaler_pb2_grpc"))
    finally:
        sys.path.remove(str(folder))


def fetched(folder: Path) -> Path:
    """The folder of KEDA's sources."""
    go = require("go", "golang-go")
    done = subprocess.run(
        [go, "mod", "download", "-json", _MODULE],
        cwd=folder,
        env=os.environ | {"GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        lacks(f"KEDA's Go module cannot be fetched: {done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"])
