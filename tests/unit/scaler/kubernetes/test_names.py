"""Names that Kubernetes takes, and no two alike."""

import re

import pytest

from headrace.scaler.actuators.kubernetes import names

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONG = "/".join(["acme"] * 25)


@pytest.mark.parametrize("model", ["chat", "acme/Chat-1.5", "1", _LONG, _LONG + "x"])
def test_a_pods_name_is_a_label(model):
    name = names.deployment(model, "0123456789abcdef")
    pod = f"{name}-7d9c8b6f5c-x2x4z"
    assert len(pod) <= 63
    assert _LABEL.fullmatch(pod)
    for value in names.labels(model, name).values():
        assert len(value) <= 63
        assert _LABEL.fullmatch(value)


def test_long_names_stay_apart():
    assert names.deployment(_LONG, "1") != names.deployment(_LONG + "x", "1")
    assert names.labels(_LONG, "d")[names.MODEL] != names.labels(_LONG + "x", "d")[names.MODEL]
    assert names.deployment("chat", "1" * 12) != names.deployment("chat", "2" * 12)
