"""Functions that are deployed anew whenever their files change."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace.cli.deployer import Deployer
from headrace.contracts.errors import HeadraceError, InvalidRequest, SetupError
from headrace.contracts.events import WorkerHeartbeat, WorkerState
from headrace.core.ports import Record
from headrace.kafka.reader import PartitionReader
from headrace.registry.function import pack
from headrace.settings import Settings

_LOOK_S: Final = 0.1

Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(slots=True)
class _Watched:
    """A function's folder. `edited_s`: when its files were seen to have changed, None when that is told."""

    folder: Path
    deployed: Fingerprint
    seen: Fingerprint
    version: str | None = None
    model: str = ""
    edited_s: float | None = None


class Watcher:
    """Deploys what changes, and says when it serves or why it does not; then the old version stays."""

    def __init__(self, settings: Settings, folders: Sequence[Path], say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        found = [(folder, fingerprint(folder)) for folder in folders]
        self._watched = [_Watched(folder, prints, prints) for folder, prints in found]

    async def run(self) -> None:
        """Watch until cancelled."""
        workers = self._settings.kafka.topics.workers
        async with (
            Deployer(self._settings) as deployer,
            PartitionReader(self._settings.kafka, {workers: None}, at="end") as news,
        ):
            self._say(f"watching {', '.join(str(each.folder) for each in self._watched)}")
            while True:
                for record in await news.poll(_LOOK_S):
                    self._hear(record)
                for each in self._watched:
                    await self._look(each, deployer)

    async def _look(self, each: _Watched, deployer: Deployer) -> None:
        now = fingerprint(each.folder)
        if now != each.seen:
            # An editor may write several files, or one in pieces: wait until nothing has moved for a moment.
            each.seen, each.edited_s = now, each.edited_s or time.monotonic()
            return
        if now == each.deployed:
            return
        each.deployed = now
        try:
            package = pack(each.folder)
            if package.version != each.version:
                await deployer.deploy([package])
                each.version, each.model = package.version, package.manifest.name
        except Exception as error:  # noqa: BLE001  # nothing that an edit does may end the watching
            is_ours = isinstance(error, SetupError | HeadraceError)
            self._say(f"{each.folder.name}: the old version stays: {error if is_ours else repr(error)}")
            each.edited_s = None

    def _hear(self, record: Record) -> None:
        try:
            worker = WorkerHeartbeat.decode(record.value or b"")
        except InvalidRequest:
            return
        for each in self._watched:
            if worker.version != each.version or worker.model != each.model or each.edited_s is None:
                continue
            if worker.state is WorkerState.READY:
                took_s = time.monotonic() - each.edited_s
                self._say(f"{worker.model}: version {worker.version} serves, {took_s:.1f} s after the edit")
                each.edited_s = None
            elif worker.state is WorkerState.FAILED:
                self._say(f"{worker.model}: the old version stays: {worker.reason}")
                each.edited_s = None


def fingerprint(folder: Path) -> Fingerprint:
    """Names, times and sizes of a function's files; changes when any of them does."""
    return tuple(sorted(_stats(folder if folder.is_dir() else folder.parent)))


def _stats(folder: Path) -> Iterator[tuple[str, int, int]]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if "__pycache__" in parts or any(part.startswith(".") for part in parts):
            continue
        try:
            stat = path.stat()
        except OSError:
            continue  # gone meanwhile
        yield str(path), stat.st_mtime_ns, stat.st_size
