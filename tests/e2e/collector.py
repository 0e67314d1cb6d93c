"""A collector of the tests: it speaks OTLP over HTTP as a real one, and keeps what it gets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def values(attributes: Any) -> dict[str, Any]:
    """Attributes by name."""
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


class Collector:
    """What came, by the name of the service that sent it."""

    def __init__(self) -> None:
        self.url = ""
        self._lock = threading.Lock()
        self._spans: list[tuple[str, Any]] = []
        self._metrics: dict[tuple[str, str], Any] = {}

    def take(self, path: str, body: bytes) -> None:
        with self._lock:
            if path == "/v1/traces":
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    service = values(group.resource.attributes)["service.name"]
                    self._spans += [(service, span) for scope in group.scope_spans for span in scope.spans]
            else:
                for sent in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    service = values(sent.resource.attributes)["service.name"]
                    for scope in sent.scope_metrics:
                        self._metrics |= {(service, metric.name): metric for metric in scope.metrics}

    def trace(self, trace_id: str) -> dict[str, tuple[str, Any]]:
        """The spans of a trace by name, each with its service."""
        with self._lock:
            mine = [each for each in self._spans if each[1].trace_id.hex() == trace_id]
        return {span.name: (service, span) for service, span in mine}

    def trace_of(self, request_id: str) -> dict[str, tuple[str, Any]]:
        """The trace in which a span names the request."""
        with self._lock:
            spans = list(self._spans)
        for _, span in spans:
            if values(span.attributes).get("headrace.request.id") == request_id:
                return self.trace(span.trace_id.hex())
        return {}

    def points(self, service: str, name: str) -> list[Any]:
        """A metric's points, as they came last."""
        with self._lock:
            metric = self._metrics.get((service, name))
        if metric is None:
            return []
        kind = metric.WhichOneof("data")  # None: nothing was measured yet
        return [] if kind is None else list(getattr(metric, kind).data_points)


@contextmanager
def collector() -> Iterator[Collector]:
    """One that runs until the block ends."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
