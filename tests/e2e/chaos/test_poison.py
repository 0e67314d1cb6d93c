"""Requests that crash their engine are found out and set aside; everybody else is answered."""

import json
import re
from pathlib import Path

import pytest
from tests.e2e.chaos.rig import function, load
from tests.stack import Stack

from headrace.contracts.states import State

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

FUNCTION = """
schema: headrace.function/v1
name: echo
engine: {kind: echo, args: {slots: 16, token_ms: 5, output_tokens: 20, crash_on: poison}}
scaling: {min_workers: 2, max_workers: 2}
"""
REQUESTS = 400
POISON = {77: "poison", 233: "poison"}


@pytest.fixture
def stack(tmp_path: Path, monkeypatch):
    stack = Stack(
        tmp_path,
        functions=[function(tmp_path / "echo", FUNCTION)],
        settings={"HEADRACE_SCALER_RESTART_BACKOFF_S": "[0, 0.5]"},
    )
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


async def test_two_among_four_hundred(stack: Stack) -> None:
    async with load(stack) as running:
        await running.publish(REQUESTS, 0.004, lambda number: POISON.get(number, "food"))
        await running.collect(REQUESTS)
        await running.poll(1.0)
    answers = running.answers
    guilty = {f"chaos-{number}" for number in POISON}
    assert len(answers.times) == REQUESTS, "nothing is lost"
    assert {name for name, state in answers.states.items() if state is not State.COMPLETED} == guilty
    letters = json.loads(stack.run("dead-letters", "list", "--json").stdout)
    assert {(letter["id"], letter["code"]) for letter in letters} == {
        (name, "engine_crashed") for name in guilty
    }
    log = (stack.data_dir / "logs" / "scaler.log").read_text()
    crashes = len(re.findall(r"worker \S+ of \S+ was killed by signal 6", log))
    print(f"{crashes} crashes, {answers.again} of {REQUESTS} results came again")
    assert 3 <= crashes <= 3 * len(POISON)
