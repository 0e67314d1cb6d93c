"""The dashboard asks for what there is, and the file is what the code makes."""

import json
import re
from pathlib import Path

from headrace.telemetry.dashboard import dashboard
from headrace.telemetry.metrics import METRICS, Kind

ROOT = Path(__file__).parents[3]
FILE = ROOT / "infra" / "grafana" / "headrace.json"
PAGE = ROOT / "docs" / "operations" / "telemetry.md"
_WORDS = {"sum", "max", "by", "rate", "histogram_quantile", "le", "model", "__rate_interval"}


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def scraped() -> dict[str, set[str]]:
    """Every name that a scrape has, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        labels = {label.replace(".", "_") for label in metric.labels}
        if metric.kind is Kind.HISTOGRAM:
            found |= {f"{metric.prometheus_name}_{end}": labels for end in ("sum", "count")}
            found[f"{metric.prometheus_name}_bucket"] = labels | {"le"}
        else:
            found[metric.prometheus_name] = labels
    return found


def test_the_file_is_what_the_code_makes() -> None:
    assert json.loads(FILE.read_text()) == dashboard(), "stale: make schemas"


def test_it_asks_only_for_what_there_is() -> None:
    names = scraped()
    for expression in expressions():
        words = set(re.findall(r"[a-z_]{2,}", expression)) - _WORDS
        (name,) = words & names.keys()
        assert words - {name} <= names[name], expression


def test_it_shows_every_metric() -> None:
    everything = " ".join(expressions())
    assert all(metric.prometheus_name in everything for metric in METRICS)


def test_panels_do_not_lie_upon_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not mine & taken, panel["title"]
        taken |= mine


def test_the_page_lists_every_metric() -> None:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| ([a-z]+) \| ([a-z]+) \| ([^|]*) \| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE
    )
    assert len(rows) == len(METRICS)
    listed = {name: (kind, role, labels.strip()) for name, kind, role, labels, _ in rows}
    assert listed == {
        metric.name: (metric.kind.value, metric.role, ", ".join(f"`{label}`" for label in metric.labels))
        for metric in METRICS
    }
