"""The data folder: everything one stack keeps, and who uses it now."""

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

from headrace.contracts.errors import SetupError

FORMAT: Final = 1
MIN_FREE_BYTES: Final = 500 * 2**20

_MARKER: Final = "headrace.json"


class DataFolder:
    """A folder that is ours. `open` before anything else; it stays locked until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[str] | None = None

    @property
    def state_file(self) -> Path:
        """What the running stack says about itself."""
        return self.path / "run" / "stack.json"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "headrace.db"

    def log_file(self, name: str) -> Path:
        """A process's log."""
        return self.path / "logs" / f"{name}.log"

    def open(self) -> None:
        """Make sure that the folder is ours and usable, and lock it.

        Raises:
            SetupError: it is a file, somebody else's, of a newer release, not writable, on a full disk, or
                in use by another stack.
        """
        try:
            self._open()
        except SetupError:
            self.close()
            raise
        except OSError as error:
            self.close()
            why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise SetupError(
                f"Data folder {self.path} cannot be used: {why}; choose another with --data-dir"
            ) from None

    def close(self) -> None:
        """Unlock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def secret(self, name: str) -> str:
        """A random secret that this folder keeps, readable by its owner only."""
        path = self.path / "secrets" / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(path, secrets.token_hex(32))
        return path.read_text()

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace the state file, whole."""
        write_private(self.state_file, json.dumps(state, indent=1))

    def read_state(self) -> dict[str, Any] | None:
        """The state file; None when there is none or it cannot be read."""
        try:
            state: dict[str, Any] = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return None
        return state

    def is_migrated(self, migrations: Path) -> bool:
        """Whether `note_migrated` was called for these migrations. Asking the database takes two seconds."""
        try:
            return (self.path / "run" / "migrations").read_text() == _names(migrations)
        except OSError:
            return False

    def note_migrated(self, migrations: Path) -> None:
        """Remember that this folder's database is up to date."""
        write_private(self.path / "run" / "migrations", _names(migrations))

    def _open(self) -> None:
        self._check_ours()
        for name in ("run", "logs"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        self._take_lock()
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < MIN_FREE_BYTES:
            raise SetupError(
                f"The disk of {self.path} has {free_bytes >> 20} MiB free and a stack needs "
                f"{MIN_FREE_BYTES >> 20}: free some, or choose another folder with --data-dir"
            )
        marker = self.path / _MARKER
        if not marker.exists():
            write_private(marker, json.dumps({"format": FORMAT}))

    def _check_ours(self) -> None:
        marker = self.path / _MARKER
        if marker.exists():
            try:
                found = json.loads(marker.read_text())["format"]
            except (ValueError, KeyError, TypeError):
                raise SetupError(
                    f"Data folder {self.path} is broken: {_MARKER} cannot be read; move the folder away"
                ) from None
            if found != FORMAT:
                raise SetupError(
                    f"Data folder {self.path} has format {found}, this release reads {FORMAT}: "
                    "use the release that made it, or another folder with --data-dir"
                )
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise SetupError(
                f"{self.path} is not empty and not a Headrace data folder: choose another with --data-dir"
            )

    def _take_lock(self) -> None:
        lock = (self.path / "run" / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            lock.close()
            raise SetupError(
                f"A stack already runs in {self.path} (pid {pid}): "
                f"stop it with `headrace down --data-dir {self.path}`, or choose another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock


def _names(folder: Path) -> str:
    return "\n".join(sorted(path.name for path in folder.glob("*.py")))


def write_private(path: Path, text: str) -> None:
    """Replace a file, whole, readable by its owner only."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)
