"""Which actuator runs: chosen by settings, and imported only then, for each needs other libraries."""

from headrace.scaler.actuator import Actuator
from headrace.scaler.actuators.processes import Processes
from headrace.settings import Settings


def create(settings: Settings) -> Actuator:
    """The actuator that the settings name, not started."""
    return Processes(settings)
