"""Which actuator runs: chosen by settings, and imported only then, for each needs other libraries."""

from headrace.contracts.errors import SetupError
from headrace.scaler.actuator import Actuator
from headrace.scaler.actuators.processes import Processes
from headrace.settings import Settings


def create(settings: Settings) -> Actuator:
    """The actuator that the settings name, not started.

    Raises:
        SetupError: its library is not installed, or its settings are wrong.
    """
    if settings.scaler.actuator == "kubernetes":
        return _kubernetes(settings)
    return Processes(settings)


def _kubernetes(settings: Settings) -> Actuator:
    try:
        from headrace.scaler.actuators.kubernetes.actuator import Kubernetes  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SetupError(
            f"The actuator 'kubernetes' needs {error.name}: pip install 'headrace[kubernetes]'"
        ) from None
    return Kubernetes(settings)
