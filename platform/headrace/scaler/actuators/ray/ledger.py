"""The detached actor through which all orders go, on the head of the cluster.

It outlives scalers. When it dies itself, Ray starts it anew, and it finds the workers by their actors' names.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayError

from headrace import __version__
from headrace.scaler.actuator import Cause, Ending, Exit, NewUnit, Unit
from headrace.scaler.actuators.child import judged
from headrace.scaler.actuators.ray.book import Book
from headrace.scaler.actuators.ray.messages import NEEDS, Answer, Needs, Order, State
from headrace.scaler.actuators.ray.notes import Room, may_start, why_waiting
from headrace.scaler.actuators.ray.worker import WorkerActor

NAME: Final = "ledger"

_WATCH_S: Final = 2.0
"""A watch that sees no change returns after so long: a sign of life."""
_ADOPT_S: Final = 2.0
_AGAIN_S: Final = 0.5
_LOOK_S: Final = 1.0
_START_S: Final = 30.0
"""Who has not answered after so long, and may have what it needs, more likely has not: others use it."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Seat:
    """An actor. is_placed: it has got what it needs, and answers. may_work: its worker may have begun."""

    actor: Any
    needs: Needs
    is_placed: bool = False
    may_work: bool = False


class Ledger:
    """Starts, ends and watches workers' actors."""

    def __init__(self, epoch: int) -> None:
        """epoch: of the scaler that leads and wants this one in place of another; else -1."""
        self._book = Book(uuid.uuid4().hex[:12], epoch)
        self._seats: dict[str, _Seat] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._turned = asyncio.Event()

    async def open(self) -> str:
        """Find what another ledger has left; returns our version. To be called before all else.

        Scalers of other releases call this and `epoch` too.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(self._adopt())
        await asyncio.shield(self._opening)
        return __version__

    async def epoch(self) -> int:
        """The latest whose orders count."""
        return self._book.epoch

    async def watch(self, version: int) -> State:
        """How things stand, as soon as that is another version."""
        if self._book.version == version:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S):
                    await self._turned.wait()
        return self._book.state

    async def told(self, number: int) -> None:
        """Ends up to this one are told."""
        self._book.told(number)

    async def act(self, order: Order) -> Answer:
        """Carry out, or refuse."""
        refused = self._book.refusal(order)
        if not refused:
            for ending in order.orders.ends:
                self._end(ending, order.drain_s)
            for new in order.orders.starts:
                self._start(new, order)
            self._book.ordered()
        return Answer(self._book.state, refused)

    def _start(self, new: NewUnit, order: Order) -> None:
        needs = order.needs
        actor = (
            ray.remote(WorkerActor)
            .options(
                # All that must be known of it while it waits for resources, and cannot answer.
                name=" ".join((*new, NEEDS.dump_json(needs).decode())),
                lifetime="detached",
                num_gpus=needs.num_gpus,
                num_cpus=needs.num_cpus,
                resources=dict(needs.resources),
            )
            .remote(new, order.variables)
        )
        self._take(Unit(*new, started_at_s=time.time()), _Seat(actor, needs))

    def _end(self, ending: Ending, drain_s: float) -> None:
        unit = self._book.unit(ending.unit_id)
        if unit is None:
            return
        seat = self._seats[unit.id]
        self._put(replace(unit, stopping=True))
        if not seat.is_placed:
            ray.kill(seat.actor)
        elif ending.force:
            self._run(_tell(seat.actor.kill.remote))
        else:
            self._run(_tell(partial(seat.actor.drain.remote, drain_s)))

    async def _adopt(self) -> None:
        for name in await asyncio.to_thread(ray.util.list_named_actors):
            *words, needs = name.split(" ", len(NewUnit._fields))
            if words:  # our own has none before it
                new = NewUnit(*words)
                try:
                    actor = await asyncio.to_thread(ray.get_actor, name)
                except ValueError:
                    continue  # has just ended, as those that are not listed
                seat = _Seat(actor, NEEDS.validate_json(needs), may_work=True)
                self._take(Unit(*new, started_at_s=time.time()), seat)
        # Who is told to end already is better known before anything is decided.
        until_s = time.monotonic() + _ADOPT_S
        while not all(seat.is_placed for seat in self._seats.values()) and time.monotonic() < until_s:
            await asyncio.sleep(_AGAIN_S / 5)

    def _take(self, unit: Unit, seat: _Seat) -> None:
        self._seats[unit.id] = seat
        self._put(unit)
        self._run(self._follow(unit.id, seat))
        self._run(self._explain(unit.id, seat))

    async def _follow(self, unit_id: str, seat: _Seat) -> None:
        """From its placing to its end."""
        in_flight: Any = ()
        try:
            unit = await _patiently(seat.actor.describe.remote)
            seat.is_placed = seat.may_work = True
            self._put(replace(unit, stopping=unit.stopping or self._is_stopping(unit_id)))
            code, in_flight = await _patiently(seat.actor.run.remote)
            cause, reason = judged(code, is_stopping=self._is_stopping(unit_id))
        except RayError as error:
            cause, reason = _lost(error, may_work=seat.may_work, is_stopping=self._is_stopping(unit_id))
        last = self._book.unit(unit_id)
        assert last is not None
        del self._seats[unit_id]
        self._book.end(Exit(last, cause, reason, time.time(), in_flight=in_flight))
        self._turn()
        ray.kill(seat.actor)  # its resources are free

    async def _explain(self, unit_id: str, seat: _Seat) -> None:
        """Say why it waits, for as long as it does."""
        while True:
            await asyncio.sleep(_LOOK_S)
            room = await asyncio.to_thread(_room)
            unit = self._book.unit(unit_id)
            if seat.is_placed or unit is None:
                return
            is_late = time.time() - unit.started_at_s > _START_S
            if is_late or not self._may_start(seat, room):
                self._put(replace(unit, note=why_waiting(seat.needs, room)))

    def _may_start(self, seat: _Seat, room: Room) -> bool:
        waiting = [each for each in self._seats.values() if not each.is_placed]
        placed = [each.needs for each in self._seats.values() if each.is_placed]
        return may_start(seat.needs, waiting.index(seat), placed, room)

    def _is_stopping(self, unit_id: str) -> bool:
        unit = self._book.unit(unit_id)
        return unit is not None and unit.stopping

    def _put(self, unit: Unit) -> None:
        if self._book.put(unit):
            self._turn()

    def _turn(self) -> None:
        self._turned.set()
        self._turned = asyncio.Event()

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Ask an actor, again while it cannot be reached but is not known to be dead."""
    while True:
        try:
            return await call()
        except ActorUnavailableError:
            await asyncio.sleep(_AGAIN_S)


async def _tell(call: Callable[[], Awaitable[None]]) -> None:
    """Tell an actor, until it has heard it; the end of one that is dead is seen by who follows it."""
    with contextlib.suppress(RayError):
        await _patiently(call)


def _lost(error: RayError, *, may_work: bool, is_stopping: bool) -> tuple[Cause, str]:
    """Why an actor is no more, or could not run its worker."""
    if not may_work and is_stopping:
        return Cause.ASKED, "was called off before it had a place"
    # Ray's memory monitor ends actors too, and says so in its own way.
    if may_work and isinstance(error, ActorDiedError | OutOfMemoryError):
        return Cause.KILLED, "was lost with its actor or node"
    words = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Cause.FAILED, f"could not be started on Ray: {words[-1] if words else repr(error)}"


def _room() -> Room:
    return Room([node["Resources"] for node in ray.nodes() if node["Alive"]], ray.available_resources())
