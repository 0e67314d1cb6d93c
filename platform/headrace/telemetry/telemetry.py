"""What a process measures with; `setup.opened` makes it."""

from dataclasses import dataclass
from typing import Final

from headrace.telemetry.instruments import Instruments, NoInstruments
from headrace.telemetry.spans import Tracer


@dataclass(frozen=True, slots=True)
class Telemetry:
    """tracer: None traces nothing."""

    is_on: bool
    instruments: Instruments
    tracer: Tracer | None = None


OFF: Final = Telemetry(is_on=False, instruments=NoInstruments())
