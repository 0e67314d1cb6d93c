"""Batches: what is known of each, and what is to be done next. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

DAY_S: Final = 86_400
MAX_WINDOW_S: Final = 7 * DAY_S
LAST_RESULTS_S: Final = 20.0
"""How long a batch whose window has closed waits for results that are on their way."""
CANCEL_S: Final = 300.0
"""How long a cancelled batch waits for what runs."""


class BatchState(StrEnum):
    """Where a batch stands, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


UNFINISHED: Final = frozenset(
    {BatchState.VALIDATING, BatchState.IN_PROGRESS, BatchState.FINALIZING, BatchState.CANCELLING}
)
"""Somebody has to work on it."""


class Step(StrEnum):
    """What is to be done next."""

    VALIDATE = "validate"
    QUEUE = "queue"
    WAIT = "wait"
    FINALIZE = "finalize"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch.

    window_text: as the caller said it, such as `24h`. queued_lines, queued_bytes: what of it is in Kafka.
    retry_of: the batch whose failed lines it runs again. errors: why it has failed, as OpenAI shows it.
    """

    id: str
    tenant: str
    path: str
    input_file_id: str
    state: BatchState
    window_text: str
    created_at_s: float
    expires_at_s: float
    model: str | None = None
    metadata_json: str | None = None
    errors_json: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    output_expires_after_s: float | None = None
    queued_lines: int = 0
    queued_bytes: int = 0
    marks: bytes | None = None
    retry_of: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    in_progress_at_s: float | None = None
    finalizing_at_s: float | None = None
    completed_at_s: float | None = None
    failed_at_s: float | None = None
    expired_at_s: float | None = None
    cancelling_at_s: float | None = None
    cancelled_at_s: float | None = None

    @property
    def done(self) -> int:
        """Lines that have a result."""
        return self.completed + self.failed

    def shown(self) -> dict[str, Any]:
        """The batch as OpenAI's API shows one; `retry_of` is ours."""
        times = (
            *("created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at"),
            *("expired_at", "cancelling_at", "cancelled_at"),
        )
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.path,
            "model": self.model,
            "errors": _listed(self.errors_json),
            "input_file_id": self.input_file_id,
            "completion_window": self.window_text,
            "status": self.state.value,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            **{name: _whole(getattr(self, f"{name}_s")) for name in times},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": {
                "input_tokens": self.input_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": self.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self.input_tokens + self.output_tokens,
            },
            "metadata": None if self.metadata_json is None else json.loads(self.metadata_json),
            "retry_of": self.retry_of,
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with the input file. `line`: from 1; None when it is about all of it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


def errors_json(faults: Sequence[Fault]) -> str:
    """Faults as they are kept."""
    return json.dumps(
        [{"code": f.code, "message": f.message, "param": f.param, "line": f.line} for f in faults]
    )


def next_step(batch: Batch, window_lines: int, now_s: float) -> Step:
    """What is to be done, `window_lines` being how many lines may wait in Kafka at once."""
    match batch.state:
        case BatchState.VALIDATING:
            return Step.VALIDATE
        case BatchState.IN_PROGRESS:
            return _running(batch, window_lines, now_s)
        case BatchState.CANCELLING:
            waited_s = now_s - (batch.cancelling_at_s or 0.0)
            is_quiet = batch.done >= batch.queued_lines
            return Step.FINALIZE if is_quiet or waited_s >= CANCEL_S else Step.WAIT
        case BatchState.FINALIZING:
            return Step.FINALIZE
        case _:
            return Step.NONE


def _running(batch: Batch, window_lines: int, now_s: float) -> Step:
    if batch.done >= batch.total:
        return Step.FINALIZE
    if now_s >= batch.expires_at_s:
        is_quiet = batch.done >= batch.queued_lines
        return Step.FINALIZE if is_quiet or now_s >= batch.expires_at_s + LAST_RESULTS_S else Step.WAIT
    # A quarter of the window at once: each time a part of the file is read.
    has_room = batch.queued_lines - batch.done <= window_lines * 3 // 4
    return Step.QUEUE if batch.queued_lines < batch.total and has_room else Step.WAIT


def final_state(batch: Batch, *, expired_lines: int) -> BatchState:
    """How it ends, when its files are written and so many lines never ran because the window closed."""
    if batch.state is BatchState.CANCELLING:
        return BatchState.CANCELLED
    return BatchState.EXPIRED if expired_lines else BatchState.COMPLETED


def window_s(text: str) -> float | None:
    """The seconds of `24h` or `7d`; None when it is neither or over a week."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) <= 4) or unit not in ("h", "d"):
        return None
    seconds = int(number) * (3600 if unit == "h" else DAY_S)
    return seconds if 0 < seconds <= MAX_WINDOW_S else None


def _whole(time_s: float | None) -> int | None:
    return None if time_s is None else int(time_s)


def _listed(errors: str | None) -> dict[str, Any] | None:
    return None if errors is None else {"object": "list", "data": json.loads(errors)}
