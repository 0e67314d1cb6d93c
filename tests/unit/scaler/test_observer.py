"""What the scaler sees beside its ticks, from sources that are played here."""

import asyncio
import time

import pytest
from tests.unit.core.test_returns import waiting
from tests.unit.scaler.test_fleet import TOPICS, deployed, record

from headrace.contracts.errors import Unavailable
from headrace.contracts.topics import Lane
from headrace.core.glimpse import Span
from headrace.core.ports import Place, Record
from headrace.scaler.fleet import Fleet
from headrace.scaler.observer import Observer
from headrace.settings import ScalerSettings

LANE = TOPICS.requests("chat", Lane.DEFAULT)


class Played:
    """Both sources. Each answer is given once; then, for ever, nothing comes."""

    def __init__(self, *answers, commits=None):
        self.answers = list(answers)
        self.given = asyncio.Event()
        self.commits_now = commits or {}
        self.spans = []

    async def _next(self):
        if not self.answers:
            self.given.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def poll(self, timeout_s):
        return await self._next()

    async def commits(self):
        return self.commits_now

    async def look(self, spans):
        self.spans.append(spans)
        return await self._next()


@pytest.fixture
def fleet():
    fleet = Fleet(TOPICS, ScalerSettings())
    fleet.update([record(TOPICS.models, name, deployed(name)) for name in ("chat", "other")])
    return fleet


async def run(work, played):
    task = asyncio.create_task(work)
    async with asyncio.timeout(10):
        await played.given.wait()
    task.cancel()


async def test_retries_are_counted_for_their_models(fleet):
    played = Played([waiting(0, 5.0), waiting(1, 6.0)], commits={(TOPICS.retries("5s"), 0): 1})
    await run(Observer(TOPICS, fleet).follow(played), played)
    assert (fleet.known["chat"].returns_s, fleet.known["other"].returns_s) == ([6.0], ())


async def test_a_kafka_that_is_away_changes_nothing(fleet, monkeypatch):
    monkeypatch.setattr("headrace.scaler.observer._POLL_S", 0.0)
    played = Played([waiting(0, 5.0)], Unavailable("away"), [])
    await run(Observer(TOPICS, fleet).follow(played), played)
    assert fleet.known["chat"].returns_s == [5.0]


async def test_what_waits_is_looked_at(fleet, monkeypatch):
    monkeypatch.setattr("headrace.scaler.observer._LOOK_S", 0.0)
    monkeypatch.setattr("headrace.scaler.observer._REST_S", 0.0)
    seen = Record(Place(LANE, 0, 3), None, b"{}", {}, int(time.time() * 1000) - 5000)
    played = Played(Unavailable("away"), [(0.0, seen)])
    observer = Observer(TOPICS, fleet)
    observer.spans = {"chat": [Span(LANE, 0, 3, 9, 6)], "gone": [Span("x", 0, 0, 1, 1)]}
    await run(observer.watch(played), played)
    assert played.spans == [observer.spans["chat"]] * 3, "and nobody else's"
    glimpse = fleet.known["chat"].glimpse
    assert glimpse.size == 1.0
    assert time.time() - glimpse.oldest_s == pytest.approx(5, abs=5)
    assert fleet.known["other"].glimpse is None
