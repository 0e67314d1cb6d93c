"""What a gateway tells of its requests."""

import time
from collections.abc import Mapping
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts import tracing
from headrace.contracts.tracing import TraceContext
from headrace.telemetry import metrics
from headrace.telemetry.context import REQUEST_ID, TRACE
from headrace.telemetry.instruments import Series
from headrace.telemetry.spans import PRODUCER, SERVER, Span, Untraced
from headrace.telemetry.telemetry import OFF, Telemetry

_PARENT: Final = b"traceparent"
_STATE: Final = b"tracestate"


class Exchange:
    """One HTTP request, of which nothing is told; only the caller's trace goes on to the worker."""

    def __init__(self, caller: TraceContext | None) -> None:
        self._caller = caller

    def publish(self, request_id: str, topic: str, model: str) -> h.Headers:
        """It goes to Kafka; gives headers for its record."""
        REQUEST_ID.set(request_id)
        return [] if self._caller is None else tracing.write(self._caller)

    def published(self, error: BaseException | None) -> None:
        """Kafka has it, or not."""

    def end(self, status: int, code: str | None = None) -> None:
        """It is answered. `code`: of the error."""


UNTOLD: Final = Exchange(None)
"""Nobody is told, and no trace goes on."""


class GatewayTelemetry:
    """Begins an `Exchange` for each request."""

    def __init__(self, telemetry: Telemetry = OFF) -> None:
        self._telemetry = telemetry
        self._untraced = Untraced()
        self._durations: dict[tuple[str, int], Series] = {}

    def begin(self, headers: Mapping[bytes, bytes], route: str, path: str) -> Exchange:
        """A request has come. `route`: the path, with a name in place of what differs."""
        parent = headers.get(_PARENT)
        caller = None if parent is None else tracing.read(parent, headers.get(_STATE))
        if not self._telemetry.is_on:
            return UNTOLD if caller is None else Exchange(caller)
        return _Told(self, route, caller, path)

    def _span(self, caller: TraceContext | None, route: str, path: str) -> Span | None:
        tracer = self._telemetry.tracer
        if tracer is None or not tracer.wants(caller):
            return None
        # Its name is the route, which has no ids in it.
        attributes = {
            "http.request.method": "POST",
            "http.route": route,
            "url.path": path,
            "url.scheme": "http",
        }
        return tracer.begin(f"POST {route}", SERVER, caller, attributes)

    def _duration(self, route: str, status: int) -> Series:
        found = self._durations.get((route, status))
        if found is None:
            instruments = self._telemetry.instruments
            found = instruments.series(metrics.HTTP_DURATION, route, str(status))
            self._durations[route, status] = found
        return found


class _Told(Exchange):
    def __init__(self, gateway: GatewayTelemetry, route: str, caller: TraceContext | None, path: str) -> None:
        super().__init__(caller)
        self._gateway = gateway
        self._route = route
        self._begun_s = time.perf_counter()
        self._sent: Span | None = None
        self._span = gateway._span(caller, route, path)
        if self._span is not None:
            TRACE.set(self._span.context)

    def publish(self, request_id: str, topic: str, model: str) -> h.Headers:
        REQUEST_ID.set(request_id)
        tracer = self._gateway._telemetry.tracer
        if self._span is None or tracer is None:
            # Said, so that the worker does not decide anew.
            if self._caller is None:
                return [self._gateway._untraced.header()]
            return tracing.write(self._caller)
        self._span.say({metrics.MODEL: model, "headrace.request.id": request_id})
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
            "messaging.message.id": request_id,
        }
        self._sent = tracer.begin(f"send {topic}", PRODUCER, self._span.context, attributes)
        return tracing.write(self._sent.context)

    def published(self, error: BaseException | None) -> None:
        if self._sent is not None:
            self._sent.end(None if error is None else type(error).__name__)

    def end(self, status: int, code: str | None = None) -> None:
        self._gateway._duration(self._route, status).observe(time.perf_counter() - self._begun_s)
        if self._span is not None:
            self._span.say({"http.response.status_code": status})
            self._span.end(code or (str(status) if status >= 500 else None))
