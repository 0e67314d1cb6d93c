"""Roles carry only what they use: memory, start time, and installs without torch depend on it."""

import subprocess
import sys

import pytest

_HEAVY = (
    "torch",
    "vllm",
    "numpy",
    "onnxruntime",
    "tokenizers",
    "xllamacpp",
    "aioboto3",
    "botocore",
    "huggingface_hub",
    "sqlalchemy",
    "alembic",
    "jgo",
    "grpc",
    "google",
    "lightkube",
)


@pytest.mark.parametrize(
    ("module", "also"),
    [
        ("headrace.gateway.app", ()),
        ("headrace.scaler.app", ("starlette",)),
        ("headrace.dispatcher.app", ("starlette",)),
        ("headrace.worker.app", ("starlette",)),
        ("headrace.cli.main", ("starlette", "uvloop")),
    ],
)
def test_importing_it_imports_nothing_heavy(module: str, also: tuple[str, ...]) -> None:
    forbidden = (*_HEAVY, *also)
    script = f"import sys, {module}; print(*[name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == []
