"""Workers come and go in order, every five seconds: nothing is redone and nothing is lost."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from tests.e2e.chaos.rig import Faults, function, load
from tests.stack import Stack

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

FUNCTION = """
schema: headrace.function/v1
name: echo
engine: {kind: echo, args: {slots: 16, token_ms: 40, output_tokens: 10}}
scaling: {min_workers: 3, max_workers: 3}
"""
REQUESTS = 1_500
REBALANCES = 4


@pytest.fixture
def stack(tmp_path: Path):
    stack = Stack(tmp_path, functions=[function(tmp_path / "echo", FUNCTION)])
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


async def test_without_a_death_nothing_is_done_twice(stack: Stack) -> None:
    faults = Faults(stack, seed=5)
    async with load(stack) as running:
        publishing = asyncio.create_task(running.publish(REQUESTS, 0.012))
        draining = asyncio.create_task(drain_regularly(faults))
        await running.collect(REQUESTS)
        await publishing
        await draining
        await running.poll(1.0)
    assert len(running.answers.times) == REQUESTS
    assert faults.sent["worker"] == REBALANCES
    assert running.answers.repeated == {}


async def drain_regularly(faults: Faults) -> None:
    """Each drain is a worker that leaves and another that joins."""
    for _ in range(REBALANCES):
        until_s = time.monotonic() + 5
        while time.monotonic() < until_s:
            await asyncio.sleep(0.1)
        assert faults.send("worker", signal.SIGTERM)
