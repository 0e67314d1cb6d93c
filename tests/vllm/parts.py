"""An engine with the demo model."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psutil
from tests.parts import lacks
from tests.vllm import demo_model

from headrace.contracts.manifest import parse
from headrace.engines import catalog

SLOTS: Final = 4
CONTEXT_TOKENS: Final = 512
ARGS: Final[dict[str, Any]] = {
    "max_num_seqs": SLOTS,
    "context_tokens": CONTEXT_TOKENS,
    "dtype": "float32",
    "enforce_eager": True,
    "kv_cache_gib": 0.25,
}
ROOT: Final = Path(__file__).parents[2]


def model() -> Path:
    """The demo model's folder."""
    if find_spec("vllm") is None:
        lacks("vLLM is not installed here: make test-vllm")
    # In a process of its own, whose memory is free again afterwards.
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    made = [sys.executable, "-m", "tests.vllm.demo_model"]
    subprocess.run(made, check=True, cwd=ROOT, env=offline, capture_output=True)
    return demo_model.folder()


def create(path: Path, **args: Any) -> Any:
    """An engine; its class can be imported only where vLLM is installed."""
    document = {
        "name": "chat",
        "engine": {"kind": "vllm", "args": ARGS | args},
        "model": {"source": "file:x"},
    }
    return catalog.create(parse(document, where="test"), path)


def engine_cores(pid: int | None = None) -> list[psutil.Process]:
    """The processes of vLLM below one: the engine core, and those that compute for it."""
    below = psutil.Process(pid).children(recursive=True)
    return [process for process in below if process.name().startswith("VLLM")]
