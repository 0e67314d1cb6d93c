"""Spans, made only for requests that are traced."""

import time
from collections.abc import Mapping
from itertools import count
from random import getrandbits
from typing import Any, Final, Protocol

from headrace.contracts import headers as h
from headrace.contracts.tracing import TraceContext
from headrace.telemetry.sampling import Budget

SERVER: Final = "SERVER"
PRODUCER: Final = "PRODUCER"
CONSUMER: Final = "CONSUMER"
INTERNAL: Final = "INTERNAL"
"""Kinds of spans, by OpenTelemetry's names."""

Attributes = Mapping[str, str | int | float | bool | list[str]]


class Span(Protocol):
    """One step of a traced request."""

    @property
    def context(self) -> TraceContext:
        """Its place in the trace, for those below it."""
        ...

    def say(self, attributes: Attributes) -> None:
        """Say more about it."""
        ...

    def note(self, name: str) -> None:
        """Something happened now."""
        ...

    def end(self, error: str | None = None) -> None:
        """It is over; `error`: a short word for why it failed."""
        ...


class Tracer:
    """Decides what is traced, and traces it by OpenTelemetry's SDK.

    provider: a `TracerProvider` that samples everything: what it is asked for has been decided here.
    """

    def __init__(self, provider: Any, budget: Budget) -> None:
        self._tracer = provider.get_tracer("headrace")
        self._budget = budget

    def wants(self, caller: TraceContext | None) -> bool:
        """Whether a request is traced. A caller's decision stands; else it is, while the budget lasts."""
        return self._budget.admit(time.monotonic()) if caller is None else caller.sampled

    def begin(self, name: str, kind: str, parent: TraceContext | None, attributes: Attributes) -> Span:
        """A step of a request that is traced; without a parent, of a new trace."""
        from opentelemetry.trace import (  # noqa: PLC0415  # an extra
            Link,
            NonRecordingSpan,
            SpanKind,
            set_span_in_context,
        )

        above = None if parent is None else _span_context(parent)
        span = self._tracer.start_span(
            name,
            context=None if above is None else set_span_in_context(NonRecordingSpan(above)),
            kind=SpanKind[kind],
            attributes=attributes,
            # The messaging conventions want a link to whoever published; it may be the parent as well.
            links=[Link(above)] if above is not None and kind == CONSUMER else None,
        )
        return _OtelSpan(span, b"" if parent is None else parent.state)


class Untraced:
    """Makes contexts that tell everybody below not to trace. Half of each id is the process' own."""

    def __init__(self) -> None:
        self._head = f"00-{getrandbits(64) | 1:016x}".encode()
        self._tail = f"-{getrandbits(64) | 1:016x}-00".encode()
        self._numbers = count(getrandbits(32))

    def header(self) -> h.Header:
        """The `traceparent` of one request."""
        return h.TRACE_PARENT, b"%s%016x%s" % (self._head, next(self._numbers), self._tail)


def _span_context(context: TraceContext) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState  # noqa: PLC0415

    return SpanContext(
        trace_id=int(context.trace_id, 16),
        span_id=int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([context.state.decode("latin-1")]),
    )


class _OtelSpan:
    def __init__(self, span: Any, state: bytes) -> None:
        self._span = span
        found = span.get_span_context()
        self.context = TraceContext(
            f"{found.trace_id:032x}", f"{found.span_id:016x}", sampled=True, state=state
        )

    def say(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def note(self, name: str) -> None:
        self._span.add_event(name)

    def end(self, error: str | None = None) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
