"""What gathers is what is scraped and what is sent."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace.telemetry import metrics, otlp
from headrace.telemetry.instruments import Gathering, NoInstruments
from headrace.telemetry.metrics import METRICS, Kind
from headrace.telemetry.scrapes import registry
from headrace.telemetry.telemetry import Telemetry
from headrace.telemetry.worker import Served, WorkerTelemetry

ROLES = sorted({metric.role for metric in METRICS})


def filled(role: str) -> Gathering:
    """Every metric of a role, with values."""
    made = Gathering(role)
    for metric in METRICS:
        if metric.role != role:
            continue
        series = made.series(metric, *(f"{label}!" for label in metric.labels))
        if metric.kind is Kind.COUNTER:
            series.add(3)
        elif metric.kind is Kind.GAUGE:
            series.set(4)
        else:
            for value in (metric.bounds[0], metric.bounds[-1] + 1, metric.bounds[0]):
                series.observe(value)
    return made


@pytest.mark.parametrize("role", ROLES)
def test_a_scrape_has_every_metric_by_its_name(role: str) -> None:
    text = generate_latest(registry(filled(role))).decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    for metric in METRICS:
        if metric.role == role:
            family = found[metric.prometheus_name.removesuffix("_total")]
            assert family.type == metric.kind.value
            assert family.samples[0].labels.keys() >= {label.replace(".", "_") for label in metric.labels}


@pytest.mark.parametrize("role", ROLES)
def test_otlp_has_every_metric_by_opentelemetrys_name(role: str) -> None:
    points = {point.name: point for point in otlp._points(filled(role), 1, 2)}
    mine = {metric.name: metric for metric in METRICS if metric.role == role}
    assert points.keys() == mine.keys()
    for name, metric in mine.items():
        (point,) = points[name].data.data_points
        assert point.attributes == {label: f"{label}!" for label in metric.labels}
        assert points[name].unit == metric.unit
        if metric.kind is Kind.HISTOGRAM:
            assert (point.count, list(point.explicit_bounds)) == (3, list(metric.bounds))
            assert point.sum == pytest.approx(2 * metric.bounds[0] + metric.bounds[-1] + 1)
            assert point.bucket_counts == [2, *[0] * (len(metric.bounds) - 1), 1]
        else:
            assert point.value == (3 if metric.kind is Kind.COUNTER else 4)


def test_series_are_kept_apart_and_forgotten_together() -> None:
    made = Gathering("scaler")
    made.series(metrics.WORKERS, "a", "ready").set(2)
    made.series(metrics.WORKERS, "b", "ready").set(1)
    made.series(metrics.WORKER_ENDS, "a", "killed").add(1)
    made.clear(metrics.WORKERS)
    made.series(metrics.WORKERS, "b", "ready").set(5)
    text = generate_latest(registry(made)).decode()
    assert 'headrace_workers{gen_ai_request_model="b",headrace_worker_phase="ready"} 5.0' in text
    assert 'headrace_workers{gen_ai_request_model="a"' not in text
    assert "headrace_worker_ends_total{" in text


def test_a_watched_gauge_is_read_when_somebody_looks() -> None:
    made, value = Gathering("gateway"), [1]
    made.watch(metrics.WAITING, lambda: value[0])
    value[0] = 7
    assert "headrace_gateway_waiting 7.0" in generate_latest(registry(made)).decode()


def test_nobody_looks() -> None:
    none = NoInstruments()
    series = none.series(metrics.REQUESTS, "a", "completed")
    series.add(1)
    series.set(1)
    series.observe(1)
    none.clear(metrics.REQUESTS)
    none.watch(metrics.WAITING, lambda: 1 / 0)


def test_names_are_unique_and_labels_are_few() -> None:
    assert len({metric.prometheus_name for metric in METRICS}) == len(METRICS)
    assert all(len(metric.labels) <= 3 for metric in METRICS)


def test_a_worker_counts_dead_letters_from_none_on() -> None:
    """Prometheus sees no growth in a series that begins with its first event."""
    gathering = Gathering("worker")
    told = WorkerTelemetry(Served("chat", "echo", "w", "g", {}), Telemetry(is_on=True, instruments=gathering))

    def values() -> list[tuple[tuple[str, ...], float]]:
        return [(labels, series.now) for labels, series in dict(gathering.all())[metrics.DEAD_LETTERS]]

    assert values() == [(("chat",), 0)]
    told.set_aside()
    assert values() == [(("chat",), 1)]


def test_collectors_and_our_page_spell_what_alerts_ask_for_alike() -> None:
    """A collector makes `_ratio` of the unit 1, and nothing of one in braces."""
    assert {metric.unit for metric in METRICS if "1" in metric.unit} == set()
