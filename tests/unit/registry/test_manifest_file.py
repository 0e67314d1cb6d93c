"""A wrong manifest is told with its file, line and field."""

from pathlib import Path

import pytest

from headrace.contracts.errors import SetupError
from headrace.registry.manifest_file import read_manifest

REPOSITORY = Path(__file__).parents[3]


def _read(folder: Path, text: str) -> str:
    (folder / "function.yaml").write_text(text)
    with pytest.raises(SetupError) as error:
        read_manifest(folder)
    return str(error.value).removeprefix(f"{folder}/")


@pytest.mark.parametrize("name", ["echo", "chat"])
def test_our_own_functions_are_right(name: str) -> None:
    folder = REPOSITORY / "functions" / name
    assert read_manifest(folder).name == name
    assert read_manifest(folder / "function.yaml").name == name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nengine:\n  kind: echo\nlimits:\n  max_tokns: 3\n", "function.yaml:5: limits.max_tokns: "),
        ("name: x\nengine: {kind: echo}\nmodel:\n  sha256: 0\n", "function.yaml:3: model.source: "),
        ("name: x\n", "function.yaml:1: engine: "),
        ("name: x\nengine:\n  kind: magic\n", "function.yaml:3: engine.kind: "),
        ("name: x\nname: y\n", "function.yaml:2: 'name' is there twice"),
        ("name: x\nserves: [/v1/completions, /v1/nothing]\n", "function.yaml:2: serves.1: "),
        ("name: [\n", "function.yaml:2: "),
        ("name: !!python/object:os.system x\n", "function.yaml:1: could not determine"),
        ("", "function.yaml: a manifest is a mapping"),
        ("- name\n", "function.yaml: a manifest is a mapping"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, told: str) -> None:
    assert told in _read(tmp_path, text)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = _read(tmp_path, "name: x\nengine:\n  kind: magic\nscaling:\n  min_workers: -1\n")
    assert "function.yaml:3: engine.kind" in told
    assert "function.yaml:5: scaling.min_workers" in told


def test_a_folder_without_a_manifest_is_no_function(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"is not a function: it has no function\.yaml"):
        read_manifest(tmp_path)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(SetupError, match="is not UTF-8 text"):
        read_manifest(tmp_path)
