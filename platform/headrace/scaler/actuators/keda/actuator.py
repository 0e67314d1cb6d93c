"""The `keda` actuator: we say how many, KEDA and its HPA start and end pods, heartbeats say who is there.

Nothing can be fenced: KEDA keeps no epoch. So the port is open only while this scaler acts. KEDA's
connections last for days, and one to a scaler that no longer acts would never find the one that does.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from headrace.contracts.errors import SetupError, Unavailable
from headrace.contracts.events import WorkerHeartbeat
from headrace.scaler.actuator import Exit, Orders, Unit
from headrace.scaler.actuators.keda.pods import Pods
from headrace.scaler.actuators.keda.service import Server
from headrace.scaler.actuators.keda.targets import Targets
from headrace.settings import KedaSettings, Settings


def create(settings: Settings, heard: Callable[[], Mapping[str, WorkerHeartbeat]]) -> "Keda":
    """For `catalog`."""
    return Keda(settings.keda, heard)


class Keda:
    """Passes on a number for each model. Whoever is ended is KEDA's choice, or rather Kubernetes'."""

    names_units = False

    def __init__(self, settings: KedaSettings, heard: Callable[[], Mapping[str, WorkerHeartbeat]]) -> None:
        self._heard = heard
        self._server = Server(settings)
        self._targets = Targets(time.monotonic)
        self._pods = Pods()
        self.changed = asyncio.Event()

    async def start(self) -> None:
        """See that we can serve.

        Raises:
            SetupError: the port is taken, or a certificate cannot be read.
        """
        await self._server.open(self._targets)
        await self._server.close()

    async def stop(self) -> None:
        """Streams end; pods go on."""
        await self.stand_back()

    async def lead(self, epoch: int) -> None:
        """KEDA keeps no epoch."""

    async def stand_back(self) -> None:
        """Numbers of a scaler that does not act are none."""
        if self._server.is_open:
            self._targets.close()
            await self._server.close()
            self._pods.forget()

    def units(self) -> Mapping[str, Unit]:
        """Workers that are heard, and those that KEDA was told to start.

        Raises:
            Unavailable: Kafka has not been read.
        """
        self._pods.hear(self._heard(), time.time())
        return self._pods.units(time.time())

    def exits(self) -> list[Exit]:
        """Workers that said so, or fell silent; whoever does not act has nothing to say about them."""
        if not self._server.is_open:
            return []
        try:
            self._pods.hear(self._heard(), time.time())
        except Unavailable:
            return []
        return self._pods.exits()

    async def act(self, orders: Orders) -> None:
        """Publish the numbers.

        Raises:
            Unavailable: the port cannot be opened now.
        """
        if not self._server.is_open:
            self._targets = Targets(time.monotonic)
            try:
                await self._server.open(self._targets)
            except SetupError as error:
                raise Unavailable(str(error)) from None
        self._pods.order(orders)
        self._targets.decide(orders.targets)
