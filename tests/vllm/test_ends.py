"""However it ends, nobody waits for ever and no process stays."""

import asyncio
import subprocess
import sys
import time

import psutil
import pytest
from tests.contract.engines.conformance import ask, chat
from tests.vllm.parts import ROOT, create, engine_cores, model

from headrace.contracts.errors import EngineDied

pytestmark = pytest.mark.timeout(300)


async def test_a_killed_engine_core_is_told_to_every_call() -> None:
    engine = create(model())
    await engine.start()
    asked = [
        chat(f"Write a long story about {number}.", max_tokens=400, ignore_eos=True, stream=bool(number % 2))
        for number in range(6)
    ]
    tasks = [asyncio.create_task(ask(engine, request)) for request in asked]
    await asyncio.sleep(1.0)
    cores = engine_cores()
    assert cores
    for process in cores:
        process.kill()
    begun_s = time.monotonic()
    done, waiting = await asyncio.wait(tasks, timeout=20)
    for task in waiting:
        task.print_stack()
    assert not waiting
    assert [type(task.exception()) for task in done] == [EngineDied] * 6
    assert time.monotonic() - begun_s < 10
    async with asyncio.timeout(10):
        with pytest.raises(EngineDied):
            await ask(engine, chat("Hello"))
    async with asyncio.timeout(20):
        await engine.stop()
    assert not engine_cores()


def test_a_killed_worker_leaves_no_engine_core() -> None:
    model()
    command = [sys.executable, "-m", "tests.vllm.run_until_killed"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        while (line := worker.stdout.readline()) and line != b"serving\n":
            pass
        cores = engine_cores(worker.pid)
        assert cores
        worker.kill()
    _, alive = psutil.wait_procs(cores, timeout=15)
    assert not alive
