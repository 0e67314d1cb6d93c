"""A Grafana dashboard, made from the table of metrics so that it asks for none that does not exist."""

from dataclasses import dataclass
from typing import Any, Final

from headrace.telemetry import metrics as m
from headrace.telemetry.metrics import Kind, Metric

_WIDTH, _HEIGHT = 8, 8
_COLUMNS: Final = 3
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class _Line:
    """One query; legend in Grafana's own braces."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    unit: str
    lines: tuple[_Line, ...]


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it; always the same."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in _ROWS:
        panels.append(_row(len(panels) + 1, title, top))
        for number, panel in enumerate(row):
            place = {"x": number % _COLUMNS * _WIDTH, "y": top + 1 + number // _COLUMNS * _HEIGHT}
            panels.append(_panel(len(panels) + 1, panel, place))
        top += 1 + -(-len(row) // _COLUMNS) * _HEIGHT
    return {
        "title": "Headrace",
        "uid": "headrace",
        "tags": ["headrace"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), _models()]},
        "panels": panels,
    }


def _rate(metric: Metric, *by: str) -> str:
    """So many a second. A histogram's count."""
    suffix = "_count" if metric.kind is Kind.HISTOGRAM else ""
    return f"sum by ({_names(by)}) (rate({metric.prometheus_name}{suffix}{_of(metric)}[$__rate_interval]))"


def _total(metric: Metric, *by: str) -> str:
    """So much a second, of a histogram's values."""
    return f"sum by ({_names(by)}) (rate({metric.prometheus_name}_sum{_of(metric)}[$__rate_interval]))"


def _now(metric: Metric, *by: str, how: str = "sum") -> str:
    return f"{how} by ({_names(by)}) ({metric.prometheus_name}{_of(metric)})"


def _quantiles(metric: Metric, *by: str, legend: str) -> tuple[_Line, ...]:
    buckets = f"rate({metric.prometheus_name}_bucket{_of(metric)}[$__rate_interval])"
    return tuple(
        _Line(f"histogram_quantile({part}, sum by ({_names(('le', *by))}) ({buckets}))", f"p{name} {legend}")
        for part, name in ((0.5, 50), (0.95, 95), (0.99, 99))
    )


def _of(metric: Metric) -> str:
    """Only the chosen models, where a metric knows of models."""
    return f'{{{_name(m.MODEL)}=~"$model"}}' if m.MODEL in metric.labels else ""


def _name(label: str) -> str:
    return label.replace(".", "_")


def _names(labels: tuple[str, ...]) -> str:
    return ", ".join(map(_name, labels))


_MODEL: Final = "{{gen_ai_request_model}}"
_MODEL_LANE: Final = f"{_MODEL} {{{{headrace_lane}}}}"

_ROWS: Final = (
    (
        "Callers",
        (
            _Panel(
                "Answers a second",
                "reqps",
                (
                    _Line(
                        _rate(m.HTTP_DURATION, "http.response.status_code"), "{{http_response_status_code}}"
                    ),
                ),
            ),
            _Panel(
                "Time to the end of an answer",
                "s",
                _quantiles(m.HTTP_DURATION, "http.route", legend="{{http_route}}"),
            ),
            _Panel("Callers who wait", "short", (_Line(_now(m.WAITING), "waiting"),)),
        ),
    ),
    (
        "Work",
        (
            # Each dispatcher counts all of it.
            _Panel("Backlog", "short", (_Line(_now(m.BACKLOG, m.MODEL, m.LANE, how="max"), _MODEL_LANE),)),
            _Panel(
                "Time in the queue", "s", _quantiles(m.QUEUE_DURATION, m.MODEL, m.LANE, legend=_MODEL_LANE)
            ),
            _Panel(
                "Requests a second, by how they ended",
                "reqps",
                (
                    _Line(_rate(m.REQUESTS, m.MODEL, m.OUTCOME), f"{_MODEL} {{{{headrace_outcome}}}}"),
                    _Line(_rate(m.DEAD_LETTERS, m.MODEL), f"{_MODEL} dead letters"),
                ),
            ),
        ),
    ),
    (
        "Models",
        (
            _Panel("Time to the first token", "s", _quantiles(m.FIRST_TOKEN, m.MODEL, legend=_MODEL)),
            _Panel("Time for each token after it", "s", _quantiles(m.OUTPUT_TOKEN, m.MODEL, legend=_MODEL)),
            _Panel(
                "Tokens a second",
                "short",
                (_Line(_total(m.TOKENS, m.MODEL, m.TOKEN_TYPE), f"{_MODEL} {{{{{_name(m.TOKEN_TYPE)}}}}}"),),
            ),
            _Panel("Time on the engine", "s", _quantiles(m.REQUEST_DURATION, m.MODEL, legend=_MODEL)),
        ),
    ),
    (
        "Workers",
        (
            _Panel(
                "Requests that run, and room for them",
                "short",
                (
                    _Line(_now(m.IN_FLIGHT, m.MODEL), f"{_MODEL} running"),
                    _Line(_now(m.CAPACITY, m.MODEL), f"{_MODEL} room"),
                ),
            ),
            _Panel(
                "Workers",
                "short",
                (
                    _Line(
                        _now(m.WORKERS, m.MODEL, "headrace.worker.phase"),
                        f"{_MODEL} {{{{headrace_worker_phase}}}}",
                    ),
                ),
            ),
            _Panel(
                "Workers that ended, a second",
                "short",
                (
                    _Line(
                        _rate(m.WORKER_ENDS, m.MODEL, "headrace.worker.cause"),
                        f"{_MODEL} {{{{headrace_worker_cause}}}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Scaling",
        (
            _Panel(
                "Workers that there are to be", "short", (_Line(_now(m.TARGET, m.MODEL, how="max"), _MODEL),)
            ),
            _Panel("Work that waits", "s", (_Line(_now(m.WORK, m.MODEL, how="max"), _MODEL),)),
            _Panel(
                "Requests that come steadily, a second",
                "short",
                (_Line(_now(m.ARRIVING, m.MODEL, how="max"), _MODEL),),
            ),
            _Panel("Cold start, p90", "s", (_Line(_now(m.COLD_START, m.MODEL, how="max"), _MODEL),)),
            _Panel(
                "Requests, by where they stand",
                "short",
                (
                    _Line(
                        _now(m.STAGES, m.MODEL, "headrace.request.stage", how="max"),
                        f"{_MODEL} {{{{headrace_request_stage}}}}",
                    ),
                ),
            ),
            _Panel(
                "Tokens that wait, and records behind the commits",
                "short",
                (
                    _Line(_now(m.WAITING_TOKENS, m.MODEL, how="max"), f"{_MODEL} tokens"),
                    _Line(_now(m.LAG, m.MODEL, how="max"), f"{_MODEL} records"),
                ),
            ),
            _Panel("The oldest waits for", "s", (_Line(_now(m.OLDEST, m.MODEL, how="max"), _MODEL),)),
            _Panel(
                "A request's work",
                "s",
                (_Line(_now(m.REQUEST_WORK, m.MODEL, how="max"), _MODEL),),
            ),
            _Panel(
                "Requests that workers have done with, a second",
                "reqps",
                (_Line(_rate(m.SETTLED, m.MODEL), _MODEL),),
            ),
            _Panel(
                "Requests unaccounted for", "short", (_Line(_now(m.UNACCOUNTED, m.MODEL, how="max"), _MODEL),)
            ),
            _Panel(
                "From a request without a worker to",
                "s",
                _quantiles(
                    m.REACTION,
                    m.MODEL,
                    "headrace.reaction.stage",
                    legend=f"{_MODEL} {{{{headrace_reaction_stage}}}}",
                ),
            ),
            _Panel("Starts of workers", "s", _quantiles(m.START_DURATION, m.MODEL, legend=_MODEL)),
            _Panel("Drains of workers", "s", _quantiles(m.DRAIN_DURATION, m.MODEL, legend=_MODEL)),
            _Panel("Workers (or GPUs) that idle", "short", (_Line(_rate(m.IDLE, m.MODEL), _MODEL),)),
            _Panel("Since the backlog was read", "s", (_Line(_now(m.UNSEEN, m.MODEL, how="max"), _MODEL),)),
            _Panel(
                "Workers that failed in a row, versions taken out",
                "short",
                (
                    _Line(_now(m.FAILURES, m.MODEL, how="max"), _MODEL),
                    _Line(_now(m.ROLL_BACKS, m.MODEL), f"{_MODEL}, taken out"),
                ),
            ),
            _Panel(
                "Scalers that act, and the epoch",
                "short",
                (_Line(_now(m.LEADS), "scalers"), _Line(_now(m.EPOCH, how="max"), "epoch")),
            ),
        ),
    ),
)


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": _COLUMNS * _WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(number: int, panel: _Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": place | {"w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": line.expression,
                "legendFormat": line.legend,
            }
            for at, line in enumerate(panel.lines)
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _models() -> dict[str, Any]:
    query = f"label_values({m.BACKLOG.prometheus_name}, {_name(m.MODEL)})"
    return {
        "name": "model",
        "type": "query",
        "label": "Model",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "models"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
