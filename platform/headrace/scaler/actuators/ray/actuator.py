"""The `ray` actuator, as the scaler sees it: a mirror of the ledger, and a way to send orders to it."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from headrace.contracts.errors import SetupError, Unavailable
from headrace.scaler.actuator import Exit, Orders, Unit
from headrace.scaler.actuators.ray.bridge import Bridge, bridge
from headrace.scaler.actuators.ray.messages import Ask, Needs, Order, Word
from headrace.scaler.actuators.ray.mirror import Mirror
from headrace.settings import Settings, for_workers

_log = logging.getLogger(__name__)

_START_S: Final = 60.0
_ANSWER_S: Final = 10.0
_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)


def create(settings: Settings) -> "RayActuator":
    """As the catalog wants it.

    Raises:
        ModuleNotFoundError: Ray is not installed. It is not imported here: that is the driver's business.
    """
    if find_spec("ray") is None:
        raise ModuleNotFoundError("No module named 'ray'", name="ray")
    return RayActuator(settings)


class RayActuator:
    """Orders actors on a Ray cluster. They go on when this scaler ends, and are found again by the next."""

    names_units = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mirror = Mirror()
        self._bridge: Bridge | None = None
        self._following: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._answer: asyncio.Future[str] | None = None
        self._fenced: tuple[int, str] | None = None
        self._acts = False
        self._waits = False
        self.changed = asyncio.Event()

    async def start(self) -> None:
        """Connect with the cluster, and learn what is there.

        Raises:
            SetupError: there is no cluster, or it cannot be used.
        """
        self._first = asyncio.get_running_loop().create_future()
        self._following = asyncio.create_task(self._follow())
        try:
            async with asyncio.timeout(_START_S):
                await self._first
        except TimeoutError:
            await self.stop()
            raise SetupError(f"The Ray cluster has not answered for {_START_S:.0f} s") from None
        except SetupError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leave the cluster; actors go on."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        self._bridge = None
        self._mirror.lose("This scaler has left the Ray cluster")

    async def lead(self, epoch: int) -> None:
        """Tell of ends from now on. A ledger of another release gives way to nobody else."""
        self._acts = True
        if self._waits and self._bridge is not None:
            self._bridge.ask(Ask(leads=epoch))

    async def stand_back(self) -> None:
        """Another scaler acts, and tells of ends."""
        self._acts = False

    def units(self) -> Mapping[str, Unit]:
        """Actors whose worker has not ended, also those that wait for resources; `note` says for which."""
        return self._mirror.units()

    def exits(self) -> list[Exit]:
        """Ends that nobody has told of.

        The ledger keeps each until the call after, so that none is lost with us.
        """
        if not self._acts:
            return []
        told, found = self._mirror.exits()
        if told and self._bridge is not None:
            self._bridge.ask(Ask(told=told))
        return found

    async def act(self, orders: Orders) -> None:
        """Send the orders to the ledger. Also without any, once, so that it knows whose count from now on."""
        fence = (orders.epoch, self._mirror.decided.ledger)
        if not orders.starts and not orders.ends and self._fenced == fence:
            return
        driver = self._bridge
        if driver is None:
            raise Unavailable(self._mirror.why_unknown)
        ray = self._settings.ray
        needs = Needs(ray.num_gpus, ray.num_cpus, ray.resources)
        drain_s = self._settings.scaler.drain_s
        order = Order(self._mirror.decided, orders._replace(targets={}), needs, for_workers(), drain_s)
        self._answer = asyncio.get_running_loop().create_future()
        driver.ask(Ask(order))
        try:
            async with asyncio.timeout(_ANSWER_S):
                refused = await self._answer
        except TimeoutError:
            driver.close()  # whatever becomes of the orders, all is learned anew
            raise Unavailable(f"Ray has not answered for {_ANSWER_S:.0f} s") from None
        if refused:
            raise Unavailable(f"The orders were refused: {refused}")
        self._fenced = fence

    async def _follow(self) -> None:
        """Hear the driver, and start another when it is gone."""
        failures = 0
        while True:
            why = "The driver of Ray has ended: its cluster was lost"
            try:
                async with bridge() as self._bridge:
                    async for word in self._bridge.words():
                        why = word.wrong or why
                        failures = failures if word.wrong else 0
                        self._hear(word)
            except (OSError, ValueError) as error:
                why = f"The driver of Ray cannot be understood: {error!r}"
            self._lose(why)
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            failures += 1

    def _hear(self, word: Word) -> None:
        if word.waits:
            self._wait(word.waits)
        if word.state is not None:
            self._waits = False
            if self._mirror.reflect(word.state):
                self.changed.set()
            self._begin()
        if word.answered and self._answer is not None and not self._answer.done():
            self._answer.set_result(word.refused)

    def _begin(self) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def _wait(self, why: str) -> None:
        """Stand by: whatever is there, another scaler works with it."""
        self._waits = True
        if self._mirror.why_unknown != why:
            _log.warning("%s", why)
            self._mirror.lose(why)
            self.changed.set()
        self._begin()

    def _lose(self, why: str) -> None:
        _log.warning("%s", why)
        self._bridge, self._waits = None, False
        self._mirror.lose(why)
        if self._first is not None and not self._first.done():
            self._first.set_exception(SetupError(why))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unavailable(why))
