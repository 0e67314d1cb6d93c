"""What vLLM is to load is looked at first."""

import json
from pathlib import Path

import pytest

from headrace.contracts.errors import SetupError
from headrace.engines.vllm_files import check_folder, lora_args


def _adapter(folder: Path, rank: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_room_is_made_for_the_highest_rank(tmp_path: Path) -> None:
    adapters = {f"a{rank}": _adapter(tmp_path / f"a{rank}", rank) for rank in (4, 9, 2)}
    assert lora_args("chat", adapters, 2) == {
        "enable_lora": True,
        "max_loras": 2,
        "max_cpu_loras": 4,
        "max_lora_rank": 16,
    }
    assert lora_args("chat", {"one": adapters["a4"]}, 2)["max_loras"] == 1
    assert lora_args("chat", {}, 2) == {}


def test_on_a_cpu_the_last_place_stays_empty(tmp_path: Path) -> None:
    adapters = {name: _adapter(tmp_path / name, 8) for name in ("a", "b")}
    assert lora_args("chat", adapters, None)["max_loras"] == 3


@pytest.mark.parametrize("rank", [0, 513, "8", None])
def test_a_rank_that_is_none_is_told(tmp_path: Path, rank: object) -> None:
    with pytest.raises(SetupError, match="no rank 'r' from 1 to 512"):
        lora_args("chat", {"a": _adapter(tmp_path / "a", rank)}, 2)


def test_a_pickle_is_no_adapter(tmp_path: Path) -> None:
    folder = _adapter(tmp_path / "a", 4)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(SetupError, match=r"no adapter_model\.safetensors"):
        lora_args("chat", {"a": folder}, 2)


def test_a_model_is_a_folder_of_safetensors(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no config\.json"):
        check_folder("chat", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SetupError, match=r"no \*\.safetensors"):
        check_folder("chat", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    check_folder("chat", tmp_path)
