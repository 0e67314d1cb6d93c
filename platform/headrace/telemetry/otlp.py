"""Metrics and traces to an OpenTelemetry collector: OTLP over HTTP, from threads of their own.

A collector that is away costs a warning now and then: queues are bounded, and nobody waits for them.
"""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtelMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from headrace.telemetry.instruments import Distribution, Gathering, Number
from headrace.telemetry.metrics import Kind

_TIMEOUT_S: Final = 5.0
_LAST_S: Final = 3.0
"""How long the end of a process waits for what is left to be sent."""
_SCOPE: Final = InstrumentationScope("headrace")


def quieten() -> None:
    """The exporters say at ERROR, with a traceback, that a collector is away."""
    for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logging.getLogger(name).addFilter(_as_warning)


def _as_warning(record: logging.LogRecord) -> bool:
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    record.exc_info = None
    return True


def provider(endpoint: str, resource: Resource, interval_s: float) -> TracerProvider:
    """Spans, in batches, to the collector: every so often, or sooner when there are many."""
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_TIMEOUT_S)
    made = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=interval_s * 1000))
    return made


class MetricsPusher:
    """Sends all metrics every so often, and once more at the end."""

    def __init__(self, gathering: Gathering, resource: Resource, endpoint: str, interval_s: float) -> None:
        self._gathering = gathering
        self._resource = resource
        self._interval_s = interval_s
        self._begun_ns = time.time_ns()
        self._exporter = OTLPMetricExporter(endpoint=f"{endpoint.rstrip('/')}/v1/metrics", timeout=_TIMEOUT_S)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send once more, and end."""
        self._stopping.set()
        self._thread.join(_LAST_S)
        self._exporter.shutdown(timeout_millis=0)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._push()
        self._push()

    def _push(self) -> None:
        points = list(_points(self._gathering, self._begun_ns, time.time_ns()))
        scope = ScopeMetrics(_SCOPE, points, "")
        self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scope], "")]))


def end(provider: TracerProvider, pusher: MetricsPusher) -> None:
    """Send what is left, if that goes quickly: the provider alone would wait for 30 s for nobody."""
    until_s = time.monotonic() + _LAST_S
    threads = [threading.Thread(target=each, daemon=True) for each in (provider.shutdown, pusher.stop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))


def _points(gathering: Gathering, begun_ns: int, now_ns: int) -> Iterator[OtelMetric]:
    for metric, all_series in gathering.all():
        numbers, histograms = [], []
        for values, series in all_series:
            attributes = dict(zip(metric.labels, values, strict=True))
            if isinstance(series, Number):
                numbers.append(NumberDataPoint(attributes, begun_ns, now_ns, series.now))
            else:
                histograms.append(_histogram(series, attributes, begun_ns, now_ns))
        data: Sum | Gauge | Histogram
        if metric.kind is Kind.HISTOGRAM:
            data = Histogram(histograms, AggregationTemporality.CUMULATIVE)
        elif metric.kind is Kind.COUNTER:
            data = Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)
        else:
            data = Gauge(numbers)
        yield OtelMetric(metric.name, metric.help, metric.unit, data)


def _histogram(
    series: Distribution, attributes: dict[str, str], begun_ns: int, now_ns: int
) -> HistogramDataPoint:
    unknown: Any = None  # extremes are not kept
    counts = list(series.counts)
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=begun_ns,
        time_unix_nano=now_ns,
        count=sum(counts),
        sum=series.sum,
        bucket_counts=counts,
        explicit_bounds=series.bounds,
        min=unknown,
        max=unknown,
    )
