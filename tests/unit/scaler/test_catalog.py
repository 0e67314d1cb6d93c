"""Which actuator the settings name."""

import sys

import pytest

from headrace.contracts.errors import SetupError
from headrace.scaler.actuators.catalog import create
from headrace.scaler.actuators.keda import Keda
from headrace.scaler.actuators.processes import Processes
from headrace.settings import ScalerSettings, Settings

KEDA = Settings(scaler=ScalerSettings(actuator="keda"))


def test_the_settings_name_it():
    assert isinstance(create(Settings(), dict), Processes)
    assert isinstance(create(KEDA, dict), Keda)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    for name in ("keda", "keda_service"):
        monkeypatch.delitem(sys.modules, f"headrace.scaler.actuators.{name}", raising=False)
    with pytest.raises(SetupError, match=r"actuator keda needs grpc: .*headrace\[keda\]"):
        create(KEDA, dict)
