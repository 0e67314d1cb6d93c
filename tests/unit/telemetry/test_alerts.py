"""Alerts ask only for metrics that there are."""

import re

import yaml
from tests.stack import ROOT
from tests.unit.telemetry.test_dashboard import scraped

FILE = ROOT / "infra" / "prometheus" / "alerts.yaml"
_WORDS = {
    *("sum", "max", "by", "or", "vector", "increase", "rate", "histogram_quantile"),
    *("ready", "failed", "flex"),
}


def rules():
    (group,) = yaml.safe_load(FILE.read_text())["groups"]
    return group["rules"]


def test_each_says_what_is_wrong_and_what_to_do():
    assert len({rule["alert"] for rule in rules()}) == len(rules()) >= 7
    for rule in rules():
        assert rule["alert"].startswith("Headrace")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"].endswith(".")


def test_they_ask_only_for_what_there_is():
    names = scraped()
    labels = set().union(*names.values())
    for rule in rules():
        words = set(re.findall(r"[a-z_]{2,}", rule["expr"])) - _WORDS
        asked = words & names.keys()
        assert asked, rule["alert"]
        assert words - asked <= set().union(*(names[name] for name in asked)), rule["alert"]
        told = re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
        assert set(told) <= labels


def test_brackets_are_closed():
    for rule in rules():
        for pair in ("()", "{}", "[]"):
            assert rule["expr"].count(pair[0]) == rule["expr"].count(pair[1]), rule["alert"]
