"""How much waits for a model."""

import pytest
from tests.unit.gateway.parts import Gateway, deployed, settle, whole

from headrace.contracts.errors import QueueFull, Unavailable
from headrace.contracts.topics import Lane
from headrace.gateway.queues import Queues
from headrace.kafka.backlog import Backlog, PartitionBacklog
from headrace.settings import GatewaySettings


class Backlogs:
    """Says what a test has set."""

    def __init__(self, *requests):
        self.requests = requests
        self.during = lambda: None
        self.fault = None
        self.faults = {}

    async def backlog(self, model_slug=None):
        assert model_slug is None
        self.during()
        if self.fault is not None:
            raise self.fault
        rows = [PartitionBacklog("echo", Lane.FLEX, n, count, 99) for n, count in enumerate(self.requests)]
        return Backlog([row for row in rows if row.model_slug not in self.faults], self.faults)


def queues(**settings):
    return Queues(GatewaySettings(**settings), lambda name: 0.0)


async def test_the_depth_is_what_kafka_said_and_what_was_done_since():
    found, model, backlogs = queues(max_queued=100), deployed(), Backlogs(3, 4)
    found.sent(model)
    backlogs.during = lambda: found.sent(model)
    await found.refresh(backlogs)
    assert found.depth("echo") == 8
    for _ in range(3):
        found.ended(model)
    assert found.depth("echo") == 5
    backlogs.requests, backlogs.during = (0,), lambda: None
    await found.refresh(backlogs)
    assert found.depth("echo") == 0
    found.ended(model)
    assert found.depth("echo") == 0


async def test_a_kafka_that_does_not_tell_leaves_the_number(caplog):
    found, backlogs = queues(max_queued=5), Backlogs(7)
    await found.refresh(backlogs)
    backlogs.fault = Unavailable("no answer")
    for _ in range(3):
        await found.refresh(backlogs)
    assert found.depth("echo") == 7
    assert caplog.text.count("no answer") == 1


async def test_a_model_that_cannot_be_read_keeps_its_number_and_what_was_done_since(caplog):
    found, model, backlogs = queues(max_queued=100), deployed(), Backlogs(7)
    await found.refresh(backlogs)
    found.sent(model)
    backlogs.faults = {"echo": "echo has no leader"}
    for _ in range(3):
        await found.refresh(backlogs)
    assert found.depth("echo") == 8
    assert caplog.text.count("has no leader") == 1
    backlogs.faults, backlogs.requests = {}, (3,)
    await found.refresh(backlogs)
    assert found.depth("echo") == 3


def test_a_models_own_limit_comes_first():
    own = deployed(limits={"max_queued": 3})
    assert queues(max_queued=5).limit(own) == 3
    assert queues(max_queued=5).limit(deployed()) == 5
    assert queues().limit(deployed()) is None


def test_without_a_limit_nothing_is_counted():
    found, model = queues(), deployed()
    for _ in range(10):
        found.sent(model)
    found.check(model)
    assert found.depth("echo") == 0


async def test_a_full_queue_is_429_and_nothing_is_queued():
    gateway = Gateway(deployed(limits={"max_queued": 8}))
    gateway.answer_with(whole())
    found = gateway.submitter.gate.queues
    await found.refresh(Backlogs(7))
    assert (await gateway.ask()).status_code == 200
    await found.refresh(Backlogs(8))
    response = await gateway.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
    assert response.headers["retry-after"] == "1"
    assert len(gateway.kafka.sent) == 1


async def test_those_that_wait_at_this_gateway_fill_the_queue_at_once():
    import asyncio

    gateway = Gateway(deployed(), max_queued=2)
    waiting = [asyncio.create_task(gateway.ask()) for _ in range(2)]
    await settle()
    assert (await gateway.ask()).json()["error"]["code"] == "queue_full"
    assert len(gateway.kafka.sent) == 2
    gateway.submitter.give_up()
    await asyncio.gather(*waiting)


def test_the_limit_is_refused_by_name():
    found, model = queues(max_queued=1), deployed("org/m")
    found.sent(model)
    with pytest.raises(QueueFull, match="'org/m'"):
        found.check(model)
