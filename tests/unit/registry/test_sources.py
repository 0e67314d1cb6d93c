"""Models that are on this machine already. Those of S3 are in tests/e2e, those of the hub in test_hub.py."""

import hashlib
import sys
from pathlib import Path

import pytest

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import ModelSource
from headrace.registry.sources import resolve
from headrace.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


async def _refused(source: str, folder: Path, settings: Settings, sha256: str | None = None) -> str:
    with pytest.raises(SetupError) as error:
        await resolve(ModelSource(source=source, sha256=sha256), folder, settings)
    return str(error.value)


async def test_a_file_is_relative_to_the_function(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "model.bin").write_bytes(b"model")
    for source in ("file:model.bin", f"file:{tmp_path}/model.bin"):
        assert (await resolve(ModelSource(source=source), tmp_path, settings)).read_bytes() == b"model"


async def test_a_file_that_is_not_there_is_told(tmp_path: Path, settings: Settings) -> None:
    assert "model.bin does not exist" in await _refused("file:model.bin", tmp_path, settings)


async def test_the_digest_is_checked(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "model.bin").write_bytes(b"model")
    right = hashlib.sha256(b"model").hexdigest()
    assert await resolve(ModelSource(source="file:model.bin", sha256=right), tmp_path, settings)
    assert "the manifest wants 000" in await _refused("file:model.bin", tmp_path, settings, "0" * 64)
    assert "is for one file" in await _refused("file:.", tmp_path, settings, "0" * 64)


async def test_a_resource_of_a_package_is_found_without_running_it(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lib" / "a_package_with_a_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it was run')\n")
    (package / "model.bin").write_bytes(b"model")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lib"), *sys.path])
    source = "package:a_package_with_a_model/model.bin"
    assert await resolve(ModelSource(source=source), tmp_path, settings) == package / "model.bin"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("package:no_such_package_here/model.bin", "no Python package no_such_package_here"),
        ("package:orjson", "not of the form package:MODULE/RESOURCE"),
        ("package:orjson/../../x", "not of the form package:MODULE/RESOURCE"),
        ("package:os.path/x", "no Python package"),
        ("package:orjson/no-such-model.bin", "no-such-model.bin does not exist"),
        ("s3://bucket", "not of the form s3://BUCKET/KEY"),
        ("s3://bucket/../../x", "cannot be cached"),
        ("s3:bucket/key", "not of the form s3://BUCKET/KEY"),
        ("hf:just-a-name", "not of the form hf:ORG/NAME"),
    ],
)
async def test_what_cannot_be_had_is_told(tmp_path: Path, settings: Settings, source: str, told: str) -> None:
    assert told in await _refused(source, tmp_path, settings)
