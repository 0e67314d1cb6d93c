"""function.yaml: strict, with errors that name file and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.contracts import manifest
from headrace.contracts.errors import SetupError
from headrace.contracts.requests import TEXT_PATHS

_SMALL: dict[str, Any] = {"name": "org/name", "engine": {"kind": "echo"}}
_FUNCTIONS = Path(__file__).parents[3] / "functions"


def test_the_smallest_manifest() -> None:
    found = manifest.parse(_SMALL, where="function.yaml")
    assert (found.name, found.engine.kind, found.serves, found.model) == (
        "org/name",
        "echo",
        TEXT_PATHS,
        None,
    )


@pytest.mark.parametrize(
    "path", sorted(_FUNCTIONS.glob("*/function.yaml")), ids=lambda path: path.parent.name
)
def test_our_own_functions(path: Path) -> None:
    manifest.parse(yaml.safe_load(path.read_text()), where=str(path))


def test_adapters_are_of_vllm() -> None:
    adapters = {"sql-2": {"source": "file:sql"}}
    found = manifest.parse(_SMALL | {"engine": {"kind": "vllm"}, "adapters": adapters}, where="f")
    assert found.adapters["sql-2"].source == "file:sql"
    with pytest.raises(SetupError, match=r"adapters: .*only vllm"):
        manifest.parse(_SMALL | {"adapters": adapters}, where="f")
    with pytest.raises(SetupError, match="adapters"):
        manifest.parse(
            _SMALL | {"engine": {"kind": "vllm"}, "adapters": {"a:b": adapters["sql-2"]}}, where="f"
        )


@pytest.mark.parametrize("source", ["file:model.gguf", "s3://b/k", "hf:org/name@main/f.gguf", "package:m/r"])
def test_sources(source: str) -> None:
    found = manifest.parse({**_SMALL, "model": {"source": source}}, where="f")
    assert found.model is not None
    assert found.model.source == source


def test_written_and_read_again() -> None:
    found = manifest.parse(_SMALL, where="f")
    dumped = found.model_dump(mode="json")
    assert dumped["schema"] == manifest.SCHEMA
    assert manifest.parse(dumped, where="f") == found


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (None, "a manifest is a mapping"),
        ([], "a manifest is a mapping"),
        ({}, "name: Field required; engine: Field required"),
        ({**_SMALL, "schema": "v2"}, "schema: Input should be 'headrace.function/v1'"),
        ({**_SMALL, "name": "a b"}, "name: .*is not allowed"),
        ({**_SMALL, "name": "a" * 129}, "name: "),
        ({**_SMALL, "engine": {"kind": "magic"}}, r"engine\.kind: "),
        ({**_SMALL, "limitz": {}}, "limitz: Extra inputs are not permitted"),
        ({**_SMALL, "limits": {"deadline": 5}}, r"limits\.deadline: Extra"),
        ({**_SMALL, "limits": {"deadline_s": 0}}, r"limits\.deadline_s: "),
        ({**_SMALL, "serves": ["/v1/rerank"]}, r"serves\.0: "),
        ({**_SMALL, "model": {"source": "ftp://x"}}, r"model\.source: "),
        ({**_SMALL, "model": {"source": "file:x", "sha256": "abc"}}, r"model\.sha256: "),
        ({**_SMALL, "scaling": {"min_workers": -1}}, r"scaling\.min_workers: "),
    ],
)
def test_what_is_wrong_is_named(document: object, problem: str) -> None:
    with pytest.raises(SetupError, match=rf"^some/function\.yaml: .*{problem}"):
        manifest.parse(document, where="some/function.yaml")
