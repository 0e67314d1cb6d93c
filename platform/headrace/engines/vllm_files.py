"""What lies in the folders that vLLM is to load: looked at first, because its own errors name no file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from headrace.contracts.errors import SetupError

_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM can be told to make room for."""
_ADAPTER_CONFIG: Final = "adapter_config.json"


def check_folder(name: str, folder: Path) -> None:
    """Refuse what is no model of safetensors. `name`: the function's, for the message.

    Raises:
        SetupError: the folder lacks something.
    """
    if not folder.is_dir():
        raise SetupError(
            f"Function '{name}': {folder} is not a folder; engine vllm needs one with config.json, the "
            "tokenizer and *.safetensors (GGUF files are for engine llamacpp)"
        )
    for pattern in ("config.json", "*.safetensors"):
        if not any(folder.glob(pattern)):
            raise SetupError(f"Function '{name}': {folder} has no {pattern}, which vllm needs")


def lora_args(name: str, adapters: Mapping[str, Path], at_once: int | None) -> dict[str, Any]:
    """vLLM's arguments for the adapters; none when there are none.

    at_once: how many may be in one batch; None on a CPU. There vLLM's kernels take "no adapter", -1, for the
    last place, and a request without one would get the weights that lie there (vLLM's pull request 48421).
    So there is one place more than there are adapters, and the last stays empty.

    Raises:
        SetupError: a folder is no adapter of safetensors, or its rank is too high.
    """
    if not adapters:
        return {}
    rank = max(_rank(name, folder) for folder in adapters.values())
    return {
        "enable_lora": True,
        "max_loras": len(adapters) + 1 if at_once is None else min(at_once, len(adapters)),
        "max_cpu_loras": len(adapters) + 1,
        "max_lora_rank": next(each for each in _RANKS if each >= rank),
    }


def _rank(name: str, folder: Path) -> int:
    # Another file than safetensors would be a pickle, which is a program.
    for file in (_ADAPTER_CONFIG, "adapter_model.safetensors"):
        if not (folder / file).is_file():
            raise SetupError(f"Function '{name}': adapter {folder} has no {file}, which vllm needs")
    try:
        rank = json.loads((folder / _ADAPTER_CONFIG).read_bytes())["r"]
    except (ValueError, KeyError, TypeError):
        rank = None
    if not isinstance(rank, int) or not 1 <= rank <= _RANKS[-1]:
        raise SetupError(
            f"Function '{name}': {folder / _ADAPTER_CONFIG} says no rank 'r' from 1 to {_RANKS[-1]}"
        )
    return rank
