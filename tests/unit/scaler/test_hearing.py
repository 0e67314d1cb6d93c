"""What the acting shell does when one of those it acts through fails; the rest is seen in whole stacks."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest
from tests.unit.scaler.test_fleet import TOPICS, deployed, heartbeat, record

from headrace.contracts.errors import Unavailable
from headrace.contracts.events import WorkerState
from headrace.core.ports import Outgoing
from headrace.scaler import app
from headrace.scaler.actuator import Exit, Orders, Unit
from headrace.scaler.app import Parts, Scaler
from headrace.settings import ScalerSettings, Settings
from headrace.telemetry.instruments import Gathering


class Kafka:
    """In place of Kafka: nothing waits, everything is written, and we lead."""

    epoch = 1
    may_lead = True

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    async def follow_backlog(self, *_: object) -> Sequence[object]:
        return []

    async def confirm(self) -> bool:
        return True

    async def send(self, _: Outgoing) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Refusing:
    """An actuator that does nothing of what it is told, and says so."""

    names_units = False

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.told: asyncio.Queue[Orders] = asyncio.Queue()

    def units(self) -> Mapping[str, Unit]:
        return {"w": Unit("w", "chat", "v1", time.time())}

    def exits(self) -> list[Exit]:
        return []

    async def act(self, orders: Orders) -> None:
        self.told.put_nowait(orders)
        raise Unavailable("the Deployment of another model cannot be changed")


async def test_who_falls_silent_is_found_out_though_the_actuator_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actuator, kafka, stop = Refusing(), Kafka(), asyncio.Event()
    monkeypatch.setattr(app.catalog, "create", lambda *_: actuator)
    settings = Settings(scaler=ScalerSettings(tick_s=0.05, lost_s=0.2))
    scaler = Scaler(settings, Parts(kafka, kafka, kafka, Gathering("scaler")))
    scaler.fleet.update([record(TOPICS.models, "chat", deployed(workers=1))])
    scaler.fleet.update([record(TOPICS.workers, "w", heartbeat("w", WorkerState.READY))])
    running = asyncio.create_task(scaler.run(stop))
    try:
        async with asyncio.timeout(10):
            while not any(end.force for end in (await actuator.told.get()).ends):
                pass
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await running
