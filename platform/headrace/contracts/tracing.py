"""Trace context, as HTTP and Kafka headers carry it. Pure.

Source: W3C's recommendation "Trace Context".
"""

import re
from typing import Final, NamedTuple

from headrace.contracts import headers as h

_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_MAX_BYTES: Final = 512
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


class TraceContext(NamedTuple):
    """A place in a trace. Ids: 32 and 16 lower-case hex digits. state: vendors' own, passed on as it is."""

    trace_id: str
    span_id: str
    sampled: bool
    state: bytes = b""


def read(parent: bytes | None, state: bytes | None = None) -> TraceContext | None:
    """The context of `traceparent` and `tracestate`; None where there is none that is valid.

    An invalid one is no error: the trace begins anew, as the specification says.
    """
    found = None if parent is None else _PARENT.fullmatch(parent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    if version == b"00" and more is not None:
        return None
    kept = state if state is not None and len(state) <= _STATE_MAX_BYTES else b""
    return TraceContext(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1), kept)


def is_traced(parent: bytes | None) -> bool:
    """Whether it may be worth a look: most are not traced, and say so at their end."""
    return parent is not None and not parent.endswith(b"-00")


def write(context: TraceContext) -> h.Headers:
    """Headers for the context."""
    flags = "01" if context.sampled else "00"
    headers: h.Headers = [(h.TRACE_PARENT, f"00-{context.trace_id}-{context.span_id}-{flags}".encode())]
    if context.state:
        headers.append((h.TRACE_STATE, context.state))
    return headers
