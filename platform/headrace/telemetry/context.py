"""What this task works on, for its lines in the log."""

from contextvars import ContextVar
from typing import Final

from headrace.contracts.tracing import TraceContext

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("headrace_request_id", default=None)
TRACE: Final[ContextVar[TraceContext | None]] = ContextVar("headrace_trace", default=None)
