"""What those who work on batches share."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.contracts.events import ModelDeployed
from headrace.contracts.topics import Topics
from headrace.core import batch_lines as lines
from headrace.core.archive import FinalResult
from headrace.core.batches import Batch, BatchState
from headrace.core.files import Kept, ObjectStore, StoredFile
from headrace.core.ports import BulkPublisher
from headrace.settings import BatchesSettings, FilesSettings


class BatchStore(Protocol):
    """What a dispatcher asks of batches. Every call may raise `Unavailable`."""

    async def claim(self, owner: str, until_s: float, now_s: float, limit: int) -> Sequence[str]:
        """Batches that nobody works on, now the owner's."""
        ...

    async def renew(self, owner: str, until_s: float) -> None:
        """The owner goes on with all that it has."""
        ...

    async def release(self, owner: str, batch_id: str | None = None) -> None:
        """The owner works on it no more; None: on none."""
        ...

    async def get(self, batch_id: str, tenant: str | None = None) -> Batch | None:
        """A batch, whoever works on it."""
        ...

    async def held(self, batch_id: str, owner: str) -> Batch | None:
        """The batch as it is; None when it is the owner's no more."""
        ...

    async def change(self, batch_id: str, owner: str, values: Mapping[str, Any], *states: BatchState) -> bool:
        """Write what its owner has found out; False when it is not the owner's, or in none of `states`."""
        ...

    async def finish(
        self, batch: Batch, owner: str, values: Mapping[str, Any], files: Sequence[StoredFile]
    ) -> bool:
        """Its final state, with its files, at once; False when somebody else was faster."""
        ...

    async def results(self, batch_id: str, first: int, limit: int) -> Sequence[FinalResult]:
        """Results of its lines from `first` on, in their order."""
        ...


class FileStore(Protocol):
    """What a dispatcher asks of files. Every call may raise `Unavailable`."""

    async def add(self, file: StoredFile) -> None:
        """A new file."""
        ...

    async def ready(self, file_id: str, kept: Kept, expires_at_s: float | None) -> bool:
        """Its object is whole; False when it is no longer pending."""
        ...

    async def known(self, file_id: str) -> StoredFile | None:
        """A file in whatever state, of whomever."""
        ...

    async def due(self, now_s: float, limit: int) -> Sequence[StoredFile]:
        """Files whose objects may be removed."""
        ...

    async def forget(self, file_id: str) -> None:
        """Its object was removed."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that concern batches."""

    batches: BatchesSettings
    files: FilesSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """What work on batches needs.

    find: a deployed model by its public name, or `UnknownModel`. key: signs what is published; None signs
    nothing. body: of an answer, wherever it is.
    """

    batches: BatchStore
    files: FileStore
    objects: ObjectStore
    publisher: BulkPublisher
    topics: Topics
    find: Callable[[str], ModelDeployed]
    key: bytes | None
    body: Callable[[FinalResult], Awaitable[bytes]]
    limits: Limits


async def split(objects: ObjectStore, key: str, start_bytes: int = 0) -> AsyncGenerator[list[bytes], None]:
    """The lines of a file from there on, some at a time.

    Raises:
        InvalidRequest: a line is too long, or the file is gone.
        Unavailable: it cannot be read now.
    """
    cutter = lines.Split()
    pieces = objects.read(key, start_bytes)
    try:
        async for piece in pieces:
            yield cutter.feed(piece)
        yield cutter.end()
    finally:
        await pieces.aclose()
