"""Which actuator runs: chosen by settings, and imported only then, for each needs other libraries."""

from collections.abc import Callable, Mapping

from headrace.contracts.errors import SetupError
from headrace.contracts.events import WorkerHeartbeat
from headrace.scaler.actuator import Actuator
from headrace.scaler.actuators.processes import Processes
from headrace.settings import Settings

Heard = Callable[[], Mapping[str, WorkerHeartbeat]]
"""The last words of all workers, by id; raises `Unavailable` where their silence would say nothing."""


def create(settings: Settings, heard: Heard) -> Actuator:
    """The actuator that the settings name, not started. heard: for those that see no workers themselves.

    Raises:
        SetupError: its library is missing.
    """
    try:
        return _create(settings, heard)
    except ModuleNotFoundError as error:
        kind = settings.scaler.actuator
        raise SetupError(
            f"The actuator {kind} needs {error.name}: install it with pip install 'headrace[{kind}]'"
        ) from None


def _create(settings: Settings, heard: Heard) -> Actuator:
    if settings.scaler.actuator == "keda":
        from headrace.scaler.actuators.keda import Keda  # noqa: PLC0415  # an extra

        return Keda(settings.keda, heard)
    return Processes(settings)
