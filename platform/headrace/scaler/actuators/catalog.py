"""Which actuator runs: chosen by settings, and imported only then, for each needs other libraries."""

from importlib import import_module
from typing import Any, Final

from headrace.contracts.errors import SetupError
from headrace.scaler.actuator import Actuator
from headrace.settings import Settings

# name -> module with `create`, and the extra that installs what it imports
ACTUATORS: Final = {
    "process": ("headrace.scaler.actuators.processes", None),
    "ray": ("headrace.scaler.actuators.ray.actuator", "ray"),
}


def create(settings: Settings) -> Actuator:
    """The actuator that the settings name, not started.

    Raises:
        SetupError: it is not installed, or its settings are wrong.
    """
    name = settings.scaler.actuator
    if ":" in name:
        foreign: Actuator = _foreign(name)(settings)
        return foreign
    module_name, extra = ACTUATORS[name]
    try:
        module: Any = import_module(module_name)
        actuator: Actuator = module.create(settings)
    except ModuleNotFoundError as error:
        raise SetupError(
            f"Actuator '{name}' needs {error.name}: install it with pip install 'headrace[{extra}]'"
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
