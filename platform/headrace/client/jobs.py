"""Jobs and batches as a program sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from headrace.contracts.states import FINAL, State

_BATCH_ENDS: Final = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class Job:
    """A request whose answer is kept, as it stood when it was asked for.

    result: the body that a caller who waits would have had; None until it has ended well, and when it is over
    a megabyte: `Client.result` has it then. error: OpenAI's error object. ahead: requests before it in its
    queue; eta_s: until it begins; both None when that is not known. …_at_s: Unix seconds. raw: all of it.
    """

    id: str
    status: State
    model: str
    path: str
    attempts: int
    created_at_s: int
    finished_at_s: int | None
    expires_at_s: int | None
    http_status: int | None
    ahead: int | None
    eta_s: int | None
    result: Any
    error: Mapping[str, Any] | None
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """From its JSON object."""
        queue = document["queue"] or {}
        return cls(
            id=document["id"],
            status=State(document["status"]),
            model=document["model"],
            path=document["endpoint"],
            attempts=document["attempts"],
            created_at_s=document["created_at"],
            finished_at_s=document["finished_at"],
            expires_at_s=document["expires_at"],
            http_status=document["http_status"],
            ahead=queue.get("ahead"),
            eta_s=queue.get("eta_seconds"),
            result=document["result"],
            error=document["error"],
            raw=document,
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however that was."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Batch:
    """A file of requests, as it stood when it was asked for. raw: OpenAI's batch object."""

    id: str
    status: str
    total: int
    completed: int
    failed: int
    output_file_id: str | None
    error_file_id: str | None
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """From its JSON object."""
        counts = document.get("request_counts") or {}
        return cls(
            id=document["id"],
            status=document["status"],
            total=counts.get("total", 0),
            completed=counts.get("completed", 0),
            failed=counts.get("failed", 0),
            output_file_id=document.get("output_file_id"),
            error_file_id=document.get("error_file_id"),
            raw=document,
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in _BATCH_ENDS
