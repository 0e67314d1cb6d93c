"""Packing is deterministic, unpacking is safe."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from headrace.contracts.errors import SetupError
from headrace.registry.function import MAX_PACKAGE_BYTES, pack, unpack

MANIFEST = "name: x\nengine:\n  kind: echo\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "function"
    (root / "data").mkdir(parents=True)
    (root / "function.yaml").write_text(MANIFEST)
    (root / "handler.py").write_text("print()\n")
    (root / "data" / "words.txt").write_text("one two\n")
    return root


def _zip(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_the_same_folder_is_the_same_package(folder: Path) -> None:
    first = pack(folder)
    os.utime(folder / "handler.py", (0, 0))
    (folder / "handler.py").chmod(0o700)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "handler.pyc").write_bytes(b"x")
    (folder / ".hidden").write_text("x")
    assert pack(folder) == first
    assert pack(folder / "function.yaml") == first


def test_the_version_is_a_matter_of_names_and_contents(folder: Path) -> None:
    versions = {pack(folder).version}
    (folder / "handler.py").write_text("print(1)\n")
    versions.add(pack(folder).version)
    (folder / "handler.py").rename(folder / "other.py")
    versions.add(pack(folder).version)
    (folder / "empty").touch()
    versions.add(pack(folder).version)
    assert len(versions) == 4
    assert all(len(version) == 12 for version in versions)


def test_the_version_does_not_depend_on_the_zip(folder: Path, tmp_path: Path) -> None:
    package = pack(folder)
    with zipfile.ZipFile(io.BytesIO(package.data)) as archive:
        contents = {name: archive.read(name) for name in reversed(archive.namelist())}
    unpack(
        _zip(**contents), package.version, tmp_path / "there"
    )  # stored, in another order, with today's date
    assert pack(tmp_path / "there").version == package.version


def test_what_was_packed_comes_out(folder: Path, tmp_path: Path) -> None:
    package = pack(folder)
    there = tmp_path / "cache" / package.version
    unpack(package.data, package.version, there)
    assert (there / "data" / "words.txt").read_text() == "one two\n"
    unpack(package.data, package.version, there)  # another process was faster
    assert [path.name for path in there.parent.iterdir()] == [package.version]


def test_links_are_refused(folder: Path) -> None:
    (folder / "data" / "link").symlink_to("/etc/passwd")
    with pytest.raises(SetupError, match="is a link"):
        pack(folder)


def test_pipes_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(SetupError, match="not a plain file"):
        pack(folder)


def test_models_do_not_belong_in_a_package(folder: Path) -> None:
    with (folder / "model.gguf").open("wb") as file:
        file.truncate(MAX_PACKAGE_BYTES)  # of holes
    with pytest.raises(SetupError, match="keep models out"):
        pack(folder)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "."])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match="outside of its folder"):
        unpack(_zip(**{name: b"x"}), "0" * 12, tmp_path / "there")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"PK", b"not a zip", None])
def test_a_damaged_package_is_told_and_leaves_nothing(
    folder: Path, tmp_path: Path, damage: bytes | None
) -> None:
    package = pack(folder)
    data = package.data[:80] + b"\0" * 8 + package.data[88:] if damage is None else damage
    with pytest.raises(SetupError, match="damaged"):
        unpack(data, package.version, tmp_path / "cache" / "there")
    assert not (tmp_path / "cache" / "there").exists()


def test_another_version_is_not_taken_for_this_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="digest differs"):
        unpack(pack(folder).data, "0" * 12, tmp_path / "there")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(MAX_PACKAGE_BYTES + 1))
    with pytest.raises(SetupError, match="unpacks to more than"):
        unpack(buffer.getvalue(), "0" * 12, tmp_path / "there")
