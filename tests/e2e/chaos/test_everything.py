"""Every role and the broker are killed at random moments, under load by Kafka and by HTTP.

Nothing is lost; each HTTP caller gets its own answer, once; results that come again are those of the fault
table (docs/operations/delivery.md). `make chaos` is the long run.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
from loadtests.http_client import Connection, post
from tests.e2e.chaos.rig import Fault, Faults, Load, Run, body, function, load
from tests.stack import Stack

from headrace.contracts.states import State

REQUESTS = int(os.environ.get("CHAOS_REQUESTS", "2000"))
KILLS = int(os.environ.get("CHAOS_KILLS", "10"))
SEED = int(os.environ.get("CHAOS_SEED", "6"))
LIMIT_S = 240 + KILLS * 12

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 120)]

SLOTS = 16
STEP_S, STEPS = 0.01, 10
FUNCTION = f"""
schema: headrace.function/v1
name: echo
engine: {{kind: echo, args: {{slots: {SLOTS}, token_ms: {STEP_S * 1000:g}, output_tokens: {STEPS}}}}}
scaling: {{min_workers: 3, max_workers: 3}}
"""
SESSION_S = 6.0
COMMIT_S = 1.0
BROKER_S = 30.0
CALLERS = 8
# How often each is killed, of so many kills; a pause outlasts the session timeout of a worker.
WEIGHTS = {"worker": 12, "gateway": 3, "dispatcher": 2, "scaler": 2, "kafka": 1, "pause": 1}


@pytest.fixture
def stack(tmp_path: Path):
    settings = {"HEADRACE_WORKER_SESSION_TIMEOUT_S": f"{SESSION_S:g}"}
    stack = Stack(tmp_path, functions=[function(tmp_path / "echo", FUNCTION)], settings=settings)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


async def test_nothing_is_lost_whatever_dies(stack: Stack) -> None:
    faults = Faults(stack, SEED)
    async with load(stack) as running, asyncio.timeout(LIMIT_S):
        publishing = asyncio.create_task(running.publish(REQUESTS, 0.01))
        over = asyncio.Event()
        calling = [asyncio.create_task(call(stack.http_url, number, over)) for number in range(CALLERS)]
        await asyncio.gather(inject(faults), running.collect(REQUESTS, LIMIT_S))
        await publishing
        over.set()
        heard = sum(await asyncio.gather(*calling), Counter())
        await running.poll(2.0)
    report(faults, running, heard)
    answers = running.answers
    assert sum(faults.sent.values()) >= KILLS
    assert len(answers.times) == REQUESTS, "nothing is lost"
    assert set(answers.states.values()) == {State.COMPLETED}
    assert heard["wrong"] == 0, "each caller gets the answer to its own question"
    assert heard["right"] > 0
    assert unexplained(answers.repeated, faults.done) == {}


def unexplained(repeated: dict[str, list[Run]], faults: list[Fault]) -> dict[str, list[Run]]:
    """Results that came again though the fault table says that they do not.

    It says so for what a worker had answered and not committed when it was killed, and for what it had in
    flight when it was stopped for longer than the session timeout; while the broker is away, for any.
    """
    return {
        name: runs
        for name, runs in repeated.items()
        if not all(any(explains(fault, run) for fault in faults) for run in but_the_last(runs))
    }


def but_the_last(runs: list[Run]) -> list[Run]:
    """In order of time."""
    return sorted(runs, key=lambda run: run.at_s)[:-1]


def explains(fault: Fault, run: Run) -> bool:
    """Whether the fault is why what `run` answered was answered again."""
    if fault.what == "kafka":
        return abs(run.at_s - fault.at_s) < BROKER_S
    if fault.worker != run.worker:
        return False
    # A commit may take as long as a busy broker does.
    return fault.what == "pause" or 0 <= fault.at_s - run.at_s < COMMIT_S


async def inject(faults: Faults) -> None:
    """Faults at random moments, until there were enough of them; each kind at least once."""
    pauses = set()
    first = faults.chance.sample(list(WEIGHTS), len(WEIGHTS))
    while sum(faults.sent.values()) < KILLS or first:
        await asyncio.sleep(faults.chance.uniform(0.3, 2.5))
        if first:
            what = first.pop()
        else:
            (what,) = faults.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if what == "pause":
            pauses.add(asyncio.create_task(faults.pause("worker", SESSION_S + 3)))
        else:
            faults.send(what, signal.SIGKILL)
    await asyncio.gather(*pauses)


async def call(url: str, number: int, over: asyncio.Event) -> Counter[str]:
    """One caller, who asks again on a new connection when the old one broke or the gateway said no."""
    heard: Counter[str] = Counter()
    head = post(url, "/v1/chat/completions")
    connection: Connection | None = None
    asked = 0
    while not over.is_set():
        asked += 1
        word = f"caller-{number}-{asked}"
        try:
            connection = connection or await Connection.open(url)
            async with asyncio.timeout(60):
                response = await connection.ask(head, body(word))
        except (OSError, TimeoutError):
            heard["broken"] += 1
            connection = None
            await asyncio.sleep(0.2)
            continue
        if response.status == 200:
            text = orjson.loads(response.body)["choices"][0]["message"]["content"]
            heard["right" if text.split() == [word] * STEPS else "wrong"] += 1
        else:
            heard[str(response.status)] += 1
            await asyncio.sleep(0.2)
    if connection is not None:
        connection.close()
    return heard


def report(faults: Faults, running: Load, heard: Counter[str]) -> None:
    answers = running.answers
    print(
        f"\n{time.strftime('%H:%M:%S')} seed {SEED}: faults {dict(faults.sent)}; "
        f"{len(answers.times)} of {REQUESTS} answered, {answers.again} results came again; HTTP {dict(heard)}"
    )
