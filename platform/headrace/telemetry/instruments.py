"""Where the values of metrics gather, by prometheus_client.

OpenTelemetry's own instruments take 14 to 18 us for a value on the machine where these take 2 (measured); a
request has six of them. What gathers here goes out both ways: as a scrape, and as OTLP (`otlp.py`).
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from headrace.telemetry.metrics import METRICS, Kind, Metric


class Series(Protocol):
    """One metric with the values of its labels."""

    def add(self, number: float) -> None:
        """Count so many more; of counters."""
        ...

    def set(self, value: float) -> None:
        """What it is now; of gauges."""
        ...

    def observe(self, value: float) -> None:
        """One more value; of histograms."""
        ...


class Instruments(Protocol):
    """All metrics of a process."""

    def series(self, metric: Metric, *labels: str) -> Series:
        """The series of these labels' values; keep it where it is used for each request."""
        ...

    def clear(self, metric: Metric) -> None:
        """Forget all series of a metric, before those that still exist are set anew."""
        ...

    def watch(self, metric: Metric, read: Callable[[], float], *labels: str) -> None:
        """A gauge that is read when somebody looks."""
        ...


class _Silent:
    def add(self, number: float) -> None:
        pass

    def set(self, value: float) -> None:
        pass

    def observe(self, value: float) -> None:
        pass


class NoInstruments:
    """Nobody looks."""

    _silent: Final = _Silent()

    def series(self, metric: Metric, *labels: str) -> Series:
        """One that forgets."""
        return self._silent

    def clear(self, metric: Metric) -> None:
        """Nothing is there."""

    def watch(self, metric: Metric, read: Callable[[], float], *labels: str) -> None:
        """Nobody will look."""


class PrometheusInstruments:
    """Gathers. `registry`: prometheus_client's, for whoever sends them out."""

    def __init__(self, role: str) -> None:
        from prometheus_client import CollectorRegistry  # noqa: PLC0415  # an extra

        self.registry = CollectorRegistry()
        self._made = {metric: self._make(metric) for metric in METRICS if metric.role == role}
        self._series: dict[tuple[str, ...], _Bound] = {}

    def series(self, metric: Metric, *labels: str) -> Series:
        """The series of these labels' values."""
        key = metric.name, *labels
        found = self._series.get(key)
        if found is None:
            made = self._made[metric]
            found = self._series[key] = _Bound(made.labels(*labels) if labels else made)
        return found

    def clear(self, metric: Metric) -> None:
        """Forget all series of a metric."""
        self._made[metric].clear()
        self._series = {key: found for key, found in self._series.items() if key[0] != metric.name}

    def watch(self, metric: Metric, read: Callable[[], float], *labels: str) -> None:
        """A gauge that is read when somebody looks."""
        made = self._made[metric]
        (made.labels(*labels) if labels else made).set_function(read)

    def _make(self, metric: Metric) -> Any:
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415

        name, labels = metric.prometheus_name, [label.replace(".", "_") for label in metric.labels]
        if metric.kind is Kind.HISTOGRAM:
            return Histogram(name, metric.help, labels, registry=self.registry, buckets=metric.bounds)
        kind = Counter if metric.kind is Kind.COUNTER else Gauge
        return kind(name, metric.help, labels, registry=self.registry)


class _Bound:
    """prometheus_client's own methods, without a call between."""

    __slots__ = ("add", "observe", "set")

    def __init__(self, child: Any) -> None:
        self.add: Any = getattr(child, "inc", None)
        self.set: Any = getattr(child, "set", None)
        self.observe: Any = getattr(child, "observe", None)
