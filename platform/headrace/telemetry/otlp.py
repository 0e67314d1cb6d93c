"""Metrics and traces to an OpenTelemetry collector: OTLP over HTTP, from threads of their own.

A collector that is away costs a warning now and then: queues are bounded, and nobody waits for them.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
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
from prometheus_client.registry import Collector

from headrace.telemetry.metrics import METRICS, Kind, Metric

_TIMEOUT_S: Final = 5.0
_LAST_S: Final = 3.0
"""How long the end of a process waits for what is left to be sent."""
_SCOPE: Final = InstrumentationScope("headrace")
_BY_NAME: Final = {metric.prometheus_name.removesuffix("_total"): metric for metric in METRICS}


def quieten() -> None:
    """The exporters say at ERROR, with a traceback, that a collector is away."""
    for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logging.getLogger(name).addFilter(_as_warning)


def _as_warning(record: logging.LogRecord) -> bool:
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    record.exc_info = None
    return True


def provider(endpoint: str, resource: Resource) -> TracerProvider:
    """Spans, in batches, to the collector."""
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_TIMEOUT_S)
    made = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return made


class MetricsPusher:
    """Sends all metrics every so often, and once more at the end."""

    def __init__(self, registry: Collector, resource: Resource, endpoint: str, interval_s: float) -> None:
        self._registry = registry
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
        points = list(_points(self._registry, self._begun_ns, time.time_ns()))
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


@dataclass(slots=True)
class _Series:
    """One series of a family. `below`: a histogram's buckets, each with all that is below its bound."""

    attributes: dict[str, str]
    value: float = 0.0
    count: int = 0
    below: list[int] = field(default_factory=list)


def _points(registry: Collector, begun_ns: int, now_ns: int) -> Iterator[OtelMetric]:
    for family in registry.collect():
        metric = _BY_NAME[family.name]
        data = _DATA[metric.kind](metric, _series(metric, family.samples), begun_ns, now_ns)
        yield OtelMetric(metric.name, metric.help, metric.unit, data)


def _series(metric: Metric, samples: Iterable[Any]) -> list[_Series]:
    found: dict[tuple[str, ...], _Series] = {}
    for sample in samples:
        attributes = {label: sample.labels[label.replace(".", "_")] for label in metric.labels}
        series = found.setdefault(tuple(attributes.values()), _Series(attributes))
        if sample.name.endswith("_bucket"):
            series.below.append(int(sample.value))
        elif metric.kind is Kind.HISTOGRAM and sample.name.endswith("_count"):
            series.count = int(sample.value)
        elif not sample.name.endswith("_created"):
            series.value = sample.value
    return list(found.values())


def _numbers(all_series: Iterable[_Series], begun_ns: int, now_ns: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(each.attributes, begun_ns, now_ns, each.value) for each in all_series]


def _sum(_: Metric, all_series: Iterable[_Series], begun_ns: int, now_ns: int) -> Sum:
    numbers = _numbers(all_series, begun_ns, now_ns)
    return Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)


def _gauge(_: Metric, all_series: Iterable[_Series], begun_ns: int, now_ns: int) -> Gauge:
    return Gauge(_numbers(all_series, begun_ns, now_ns))


def _histogram(metric: Metric, all_series: Iterable[_Series], begun_ns: int, now_ns: int) -> Histogram:
    points = []
    for each in all_series:
        # OpenTelemetry wants what is in a bucket alone.
        counts = [high - low for low, high in zip([0, *each.below], each.below, strict=False)]
        unknown: Any = None  # prometheus_client keeps no extremes
        points.append(
            HistogramDataPoint(
                attributes=each.attributes,
                start_time_unix_nano=begun_ns,
                time_unix_nano=now_ns,
                count=each.count,
                sum=each.value,
                bucket_counts=counts,
                explicit_bounds=metric.bounds,
                min=unknown,
                max=unknown,
            )
        )
    return Histogram(points, AggregationTemporality.CUMULATIVE)


_DATA: Final[dict[Kind, Callable[..., Any]]] = {
    Kind.COUNTER: _sum,
    Kind.GAUGE: _gauge,
    Kind.HISTOGRAM: _histogram,
}
