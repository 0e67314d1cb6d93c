"""Orders that are not answered; the rest is in tests/ray."""

import asyncio

import pytest

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Orders
from headrace.scaler.actuators.ray import actuator as module
from headrace.scaler.actuators.ray.actuator import RayActuator
from headrace.settings import Settings


class Played:
    """A driver, played: it says nothing, and is lost at the moment when its answer is overdue."""

    def __init__(self, actuator: RayActuator) -> None:
        self._actuator = actuator
        self.is_closed = False

    def ask(self, _):
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._actuator._lose, "the cluster was lost")

    def close(self):
        self.is_closed = True


async def test_a_driver_may_be_lost_just_when_its_answer_is_overdue(monkeypatch):
    monkeypatch.setattr(module, "_ANSWER_S", 0.0)
    actuator = RayActuator(Settings())
    driver = actuator._bridge = Played(actuator)
    with pytest.raises(Unavailable, match="has not answered"):
        await actuator.act(Orders(1))
    assert driver.is_closed
