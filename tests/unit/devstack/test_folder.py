"""The data folder: whose it is, who uses it, what it keeps."""

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from headrace.contracts.errors import SetupError
from headrace.devstack.folder import FORMAT, DataFolder, write_private


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


def test_new_folder_is_made_and_can_be_opened_again(folder: DataFolder) -> None:
    for _ in range(2):
        folder.open()
        folder.close()

    assert json.loads((folder.path / "headrace.json").read_text()) == {"format": FORMAT}


def test_empty_folder_is_taken(folder: DataFolder) -> None:
    folder.path.mkdir()

    folder.open()
    folder.close()


def test_second_user_is_told_the_pid_of_the_first(folder: DataFolder) -> None:
    folder.open()
    try:
        with pytest.raises(SetupError, match=rf"pid {os.getpid()}.*headrace down"):
            DataFolder(folder.path).open()
    finally:
        folder.close()


def test_foreign_folder_stays_untouched(folder: DataFolder) -> None:
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("")

    with pytest.raises(SetupError, match="not a Headrace data folder"):
        folder.open()

    assert [path.name for path in folder.path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("marker", ["", "[]", "{}", "not JSON"])
def test_broken_marker(folder: DataFolder, marker: str) -> None:
    folder.path.mkdir()
    (folder.path / "headrace.json").write_text(marker)

    with pytest.raises(SetupError, match="is broken"):
        folder.open()


def test_folder_of_a_newer_release(folder: DataFolder) -> None:
    folder.path.mkdir()
    (folder.path / "headrace.json").write_text(json.dumps({"format": FORMAT + 1}))

    with pytest.raises(SetupError, match=f"has format {FORMAT + 1}"):
        folder.open()


def test_file_in_its_place(folder: DataFolder) -> None:
    folder.path.write_text("")

    with pytest.raises(SetupError, match="--data-dir"):
        folder.open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_may_not_be_written(folder: DataFolder) -> None:
    folder.path.mkdir(mode=0o500)

    with pytest.raises(SetupError, match="Permission denied"):
        folder.open()


def test_full_disk_says_how_much_is_free_and_needed(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 3 * 2**20))

    with pytest.raises(SetupError, match="3 MiB free and a stack needs 500"):
        folder.open()


def test_secrets_are_kept_private_and_differ(folder: DataFolder) -> None:
    folder.open()
    first, again, other = folder.secret("ids"), folder.secret("ids"), folder.secret("s3")
    folder.close()

    assert first == again != other
    assert len(first) == 64
    assert (folder.path / "secrets" / "ids").stat().st_mode & 0o077 == 0


def test_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old, and readable by all")

    write_private(path, "new")

    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_migrations_are_remembered_until_there_is_a_new_one(folder: DataFolder, tmp_path: Path) -> None:
    migrations = tmp_path / "versions"
    migrations.mkdir()
    (migrations / "r0001.py").touch()
    folder.open()
    before = folder.is_migrated(migrations)
    folder.note_migrated(migrations)
    after = folder.is_migrated(migrations)
    (migrations / "r0002.py").touch()
    later = folder.is_migrated(migrations)
    folder.close()

    assert (before, after, later) == (False, True, False)
