"""What an actuator is: it starts and stops the units in which workers run, and tells what became of them.

A unit is a process, a pod or an actor. Its worker names it in every heartbeat; where one unit is one worker,
both have the same id. docs/how-to/add-an-actuator.md says how to write another.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from headrace.core.journal import InFlight


@dataclass(frozen=True, slots=True)
class Unit:
    """What was ordered and has not ended.

    stopping: it was told to end. note: why it cannot start, in words; empty when nothing is known.
    """

    id: str
    model: str
    version: str
    started_at_s: float
    stopping: bool = False
    note: str = ""


class Cause(StrEnum):
    """Why a worker ended.

    asked: it was told to drain, and has left nothing behind. killed: by somebody else, or with its machine,
    which is no fault of the model. failed: by itself. crashed: what it ran may be to blame.
    """

    ASKED = "asked"
    KILLED = "killed"
    FAILED = "failed"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Exit:
    """A worker that ended.

    at_s: workers of this unit that began later are others. is_gone: the unit has ended with it; otherwise
    whatever runs it starts another worker in it. in_flight: what it ran when it crashed, if that is known.
    """

    unit: Unit
    cause: Cause
    reason: str
    at_s: float
    is_gone: bool = True
    in_flight: Sequence[InFlight] = ()


class NewUnit(NamedTuple):
    """One to be started. An actuator that cannot choose names ignores the id."""

    id: str
    model: str
    version: str


class Ending(NamedTuple):
    """One to be ended: told to drain, or, with `force`, at once."""

    unit_id: str
    force: bool = False


class Orders(NamedTuple):
    """What one decision asks for.

    epoch: of who decided; what a cluster keeps of a higher one has precedence. targets: how many workers each
    model is to have, for those who only pass on a number.
    """

    epoch: int
    starts: Sequence[NewUnit] = ()
    ends: Sequence[Ending] = ()
    targets: Mapping[str, int] = {}


class Actuator(Protocol):
    """Starts and stops units.

    changed: set when a unit has come, changed or ended; cleared by who waits for it.
    names_units: whether new units have the ids that we choose.
    """

    changed: asyncio.Event
    names_units: bool

    async def start(self) -> None:
        """Connect, and find the units that are there already.

        Raises:
            SetupError: the cluster cannot be reached, or refuses us.
        """
        ...

    async def stop(self) -> None:
        """This scaler ends. Units that would end with it are drained; those of a cluster go on."""
        ...

    async def lead(self, epoch: int) -> None:
        """This scaler acts; said before each decision. epoch: as its orders will have it."""
        ...

    async def stand_back(self) -> None:
        """Another scaler acts from here on."""
        ...

    def units(self) -> Mapping[str, Unit]:
        """Those that have not ended, by id.

        Raises:
            Unavailable: they are not known now, so that nothing can be decided.
        """
        ...

    def exits(self) -> list[Exit]:
        """Workers that have ended since the last call, by whosever wish."""
        ...

    async def act(self, orders: Orders) -> None:
        """Do it, or begin to: `units` shows at once what was ordered.

        Raises:
            Unavailable: it could not be done now; the next decision sees what is there.
        """
        ...
