"""Metrics as a page for Prometheus."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from threading import Thread
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from headrace.contracts.errors import SetupError
from headrace.telemetry.instruments import Distribution, Gathering, Number
from headrace.telemetry.metrics import Kind, Metric

_log = logging.getLogger(__name__)

_PORTS: Final = 32
"""Several roles on one machine: each takes the first port that is free."""

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


def serve(host: str, first_port: int, gathering: Gathering) -> Callable[[], None]:
    """Serve scrapes from a thread; returns what ends that.

    Raises:
        SetupError: no port is free.
    """
    ports = [0] if first_port == 0 else range(first_port, first_port + _PORTS)
    for port in ports:
        try:
            server, thread = start_http_server(port, host, registry(gathering))
        except OSError:
            continue
        _log.info("metrics at http://%s:%d/metrics", host, server.server_port)
        return partial(_stop, server, thread)
    raise SetupError(
        f"Ports {first_port} to {first_port + _PORTS - 1} on {host} are taken or may not be used; choose "
        "others by HEADRACE_TELEMETRY_PROMETHEUS_PORT"
    )


def registry(gathering: Gathering) -> CollectorRegistry:
    """prometheus_client's view of what gathers."""
    made = CollectorRegistry()
    made.register(_Families(gathering))
    return made


class _Families(Collector):
    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering

    def collect(self) -> Iterator[_Family]:
        for metric, all_series in self._gathering.all():
            family = _family(metric)
            for labels, series in all_series:
                _add(family, labels, series)
            yield family


def _family(metric: Metric) -> _Family:
    name, labels = metric.prometheus_name, [label.replace(".", "_") for label in metric.labels]
    if metric.kind is Kind.HISTOGRAM:
        return HistogramMetricFamily(name, metric.help, labels=labels)
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    return kind(name, metric.help, labels=labels)


def _add(family: _Family, labels: tuple[str, ...], series: Number | Distribution) -> None:
    if isinstance(series, Number):
        assert not isinstance(family, HistogramMetricFamily)
        family.add_metric(labels, series.now)
        return
    assert isinstance(family, HistogramMetricFamily)
    bounds = [*map(repr, map(float, series.bounds)), "+Inf"]
    family.add_metric(labels, list(zip(bounds, accumulate(series.counts), strict=True)), series.sum)


def _stop(server: WSGIServer, thread: Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
