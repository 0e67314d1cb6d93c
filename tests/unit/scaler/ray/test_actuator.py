"""Orders that are not answered, and a ledger that is not ours; the rest is in tests/ray."""

import asyncio

import pytest

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Orders
from headrace.scaler.actuators.ray import actuator as module
from headrace.scaler.actuators.ray.actuator import RayActuator
from headrace.scaler.actuators.ray.messages import Ask, Seen, State, Word
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


class Asked:
    """A driver, played: it notes what it is asked."""

    def __init__(self):
        self.asks = []

    def ask(self, ask):
        self.asks.append(ask)


async def test_a_ledger_that_is_not_ours_is_told_who_leads_until_it_is():
    actuator = RayActuator(Settings())
    driver = actuator._bridge = Asked()
    actuator._first = asyncio.get_running_loop().create_future()
    actuator._hear(Word(waits="it is of another release"))
    assert actuator._first.done(), "a scaler that does not lead stands by"
    assert actuator.changed.is_set()
    with pytest.raises(Unavailable, match="it is of another release"):
        actuator.units()
    await actuator.lead(6)
    assert driver.asks == [Ask(leads=6)]
    actuator._hear(Word(State(Seen("a", 1), (), ())))
    await actuator.lead(6)
    assert driver.asks == [Ask(leads=6)]
    assert actuator.units() == {}


async def test_one_that_waits_and_is_lost_is_asked_no_more():
    actuator = RayActuator(Settings())
    actuator._bridge = Asked()
    actuator._hear(Word(waits="it is of another release"))
    actuator._lose("the cluster was lost")
    await actuator.lead(6)
    with pytest.raises(Unavailable, match="the cluster was lost"):
        actuator.units()
    driver = actuator._bridge = Asked()
    await actuator.lead(6)
    assert driver.asks == [], "what the next driver finds is not known yet"
