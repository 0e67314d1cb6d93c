"""Files that callers keep here: what is known of each, and what the shells need to keep them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from headrace.core.pages import PageQuery

PURPOSES: Final = ("batch", "user_data", "assistants", "fine-tune", "vision", "evals")
"""What callers may say a file is for; `batch_output` is ours."""
BATCH: Final = "batch"
BATCH_OUTPUT: Final = "batch_output"
MIN_EXPIRY_S: Final = 3600
MAX_EXPIRY_S: Final = 2_592_000
FILE_PREFIX: Final = "file-"
OBJECT_FOLDER: Final = "files/"
PENDING_S: Final = 6 * 3600.0
"""A file that is not whole by then never will be: whoever wrote it has died."""


class FileState(StrEnum):
    """Where a file stands. Only a `ready` one exists for its owner."""

    PENDING = "pending"
    READY = "ready"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file. `expires_at_s`: when it is removed; of one that is not ready, its object."""

    id: str
    tenant: str
    filename: str
    purpose: str
    size_bytes: int
    sha256: str
    object_key: str
    state: FileState
    created_at_s: float
    expires_at_s: float | None

    def shown(self) -> dict[str, Any]:
        """The file as OpenAI's API shows one; `sha256` is ours."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size_bytes,
            "created_at": int(self.created_at_s),
            "expires_at": None if self.expires_at_s is None else int(self.expires_at_s),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
            "sha256": self.sha256,
        }


def pending(file_id: str, tenant: str, name: tuple[str, str], now_s: float) -> StoredFile:
    """A file whose object is about to be written. `name`: its file name and purpose."""
    filename, purpose = name
    key = f"{OBJECT_FOLDER}{file_id}"
    return StoredFile(
        file_id, tenant, filename, purpose, 0, "", key, FileState.PENDING, now_s, now_s + PENDING_S
    )


class Kept(NamedTuple):
    """What was written."""

    size_bytes: int
    sha256: str


class Writer(Protocol):
    """An object that is being written."""

    async def write(self, data: bytes) -> None:
        """Write on."""
        ...

    @property
    def kept(self) -> Kept:
        """What was written so far."""
        ...


class ObjectStore(Protocol):
    """Holds the bytes. Every call may raise `Unavailable`, and `NotFound` when there is no such object."""

    async def keep(self, key: str, file: BinaryIO) -> Kept:
        """Write a whole file, from its beginning."""
        ...

    def read(self, key: str, start_bytes: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes from there on, piece by piece."""
        ...

    def writing(self, key: str) -> AbstractAsyncContextManager[Writer]:
        """Write piece by piece; the object is there when the block ends well, and not at all otherwise."""
        ...

    async def remove(self, key: str) -> None:
        """Remove the object, and what is left of attempts to write it."""
        ...


class FileStore(Protocol):
    """Holds what is known of files. Every call may raise `Unavailable`."""

    async def add(self, file: StoredFile) -> None:
        """A new file."""
        ...

    async def ready(self, file_id: str, kept: Kept, expires_at_s: float | None) -> bool:
        """Its object is whole; False when it is no longer pending."""
        ...

    async def get(self, file_id: str, tenant: str) -> StoredFile | None:
        """A ready file of the tenant's."""
        ...

    async def list(
        self, tenant: str, query: PageQuery, purpose: str | None = None
    ) -> tuple[Sequence[StoredFile], bool]:
        """Ready files, and whether there are more."""
        ...

    async def delete(self, file_id: str, tenant: str, now_s: float) -> bool:
        """It is gone for its owner; its object goes soon after. False when there was none."""
        ...

    async def used_bytes(self, tenant: str) -> int:
        """How much the tenant keeps."""
        ...
