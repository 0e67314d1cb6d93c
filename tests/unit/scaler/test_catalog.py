"""An actuator is chosen by settings; one that is not installed is told in a sentence."""

import subprocess
import sys

import pytest

from headrace.contracts.errors import SetupError
from headrace.scaler.actuators import catalog
from headrace.scaler.actuators.keda.actuator import Keda
from headrace.scaler.actuators.processes import Processes
from headrace.scaler.actuators.ray import actuator as ray_actuator
from headrace.settings import ACTUATORS, ScalerSettings, Settings


def chosen(name):
    return Settings(scaler=ScalerSettings(actuator=name))


def test_the_settings_choose():
    assert isinstance(catalog.create(Settings()), Processes)
    assert isinstance(catalog.create(chosen("keda"), dict), Keda)


def test_whatever_the_settings_take_is_there():
    assert set(ACTUATORS) == set(catalog.ACTUATORS)


def test_what_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(ray_actuator, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"'ray' needs ray: install it with pip install 'headrace\[ray\]'"):
        catalog.create(chosen("ray"))


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    for name in ("keda.actuator", "keda.service"):
        monkeypatch.delitem(sys.modules, f"headrace.scaler.actuators.{name}", raising=False)
    with pytest.raises(SetupError, match=r"'keda' needs grpc: .*headrace\[keda\]"):
        catalog.create(chosen("keda"))


def test_the_scaler_itself_imports_no_ray():
    code = "import sys, headrace.scaler.actuators.ray.actuator; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
