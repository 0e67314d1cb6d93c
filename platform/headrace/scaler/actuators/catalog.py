"""Which actuator runs: chosen by settings, and imported only then, for each needs other libraries."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

from headrace.contracts.errors import SetupError
from headrace.contracts.events import WorkerHeartbeat
from headrace.scaler.actuator import Actuator
from headrace.settings import Settings

Heard = Callable[[], Mapping[str, WorkerHeartbeat]]
"""The last words of all workers, by id; raises `Unavailable` where their silence would say nothing."""


class _Row(NamedTuple):
    """module: has `create`. extra: installs what it imports. hears: it knows workers by heartbeats only."""

    module: str
    extra: str | None = None
    hears: bool = False


ACTUATORS: Final = {
    "process": _Row("headrace.scaler.actuators.processes"),
    "kubernetes": _Row("headrace.scaler.actuators.kubernetes.actuator", "kubernetes"),
    "ray": _Row("headrace.scaler.actuators.ray.actuator", "ray"),
    "keda": _Row("headrace.scaler.actuators.keda.actuator", "keda", hears=True),
}


def create(settings: Settings, heard: Heard = dict) -> Actuator:
    """The actuator that the settings name, not started. heard: for those that see no workers themselves.

    Raises:
        SetupError: it is not installed, or its settings are wrong.
    """
    name = settings.scaler.actuator
    if ":" in name:
        foreign: Actuator = _foreign(name)(settings)
        return foreign
    row = ACTUATORS[name]
    try:
        module: Any = import_module(row.module)
        actuator: Actuator = module.create(settings, heard) if row.hears else module.create(settings)
    except ModuleNotFoundError as error:
        raise SetupError(
            f"Actuator '{name}' needs {error.name}: install it with pip install 'headrace[{row.extra}]'"
        ) from None
    return actuator


def _foreign(name: str) -> Any:
    """The function behind `MODULE:FUNCTION`."""
    module_name, _, function = name.partition(":")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise SetupError(
            f"Actuator '{name}': {error}; install the package that has it where the scaler runs"
        ) from error
    made = getattr(module, function, None)
    if not callable(made):
        raise SetupError(f"Actuator '{name}': module {module_name} has no function '{function}'")
    return made
