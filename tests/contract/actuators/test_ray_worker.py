"""The actor of the `ray` actuator, without Ray: its worker is a child process and dies with it."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contract.actuators.conformance import MODEL, VERSION, Handling, processes, settings

from headrace.contracts.topics import Lane
from headrace.core.journal import InFlight, blank, mark
from headrace.scaler.actuator import NewUnit
from headrace.scaler.actuators.child import Ended
from headrace.scaler.actuators.ray.worker import WorkerActor

__all__ = ["settings"]

NEW = NewUnit("w-under-ray", MODEL, VERSION)


@pytest.fixture
def actor(settings) -> WorkerActor:
    return WorkerActor(NEW, {"HEADRACE_LOG_FORMAT": "json"})


class TestWorkerActor(Handling):
    async def test_it_says_who_it_is(self, actor: WorkerActor) -> None:
        unit = await actor.describe()
        assert (unit.id, unit.model, unit.version, unit.stopping) == (*NEW, False)
        assert unit.started_at_s == pytest.approx(time.time(), abs=5)

    async def test_a_crash_leaves_what_was_in_flight(self, actor: WorkerActor) -> None:
        running = asyncio.create_task(actor.run())
        await self.until(lambda: self.is_up(NEW.id), "the worker")
        (worker,) = processes(NEW.id)
        assert worker.environ()["HEADRACE_LOG_FORMAT"] == "json"
        words = worker.cmdline()
        journal = Path(words[words.index("--journal") + 1])
        entry = InFlight(Lane.FLEX, 3, 41, 1)
        data = bytearray(blank(4))
        mark(memoryview(data), 2, entry)
        journal.write_bytes(data)

        self.crash(NEW.id)

        assert await running == Ended(-11, (entry,))
        assert await actor.run() == Ended(-11, (entry,)), "for a ledger that was started anew"
        assert not journal.parent.exists()

    async def test_it_drains(self, actor: WorkerActor) -> None:
        running = asyncio.create_task(actor.run())
        await self.until(lambda: self.is_up(NEW.id), "the worker")

        for _ in range(3):
            await actor.drain(60.0)

        assert (await actor.describe()).stopping
        assert (await running).exit_code == 0

    async def test_what_does_not_drain_in_time_is_killed(self, actor: WorkerActor) -> None:
        running = asyncio.create_task(actor.run())
        await self.until(lambda: self.is_up(NEW.id), "the worker")
        (worker,) = processes(NEW.id)
        worker.suspend()

        await actor.drain(0.1)

        assert (await running).exit_code == -9

    async def test_who_is_told_to_end_before_it_begins_never_does(self, actor: WorkerActor) -> None:
        await actor.drain(60.0)
        assert await actor.run() == Ended(0)

    async def test_its_worker_dies_with_it(self, settings) -> None:
        await self.check_that_it_dies(lambda actor: actor.kill())

    async def test_its_worker_dies_with_the_node(self, settings) -> None:
        # What the actor is a child of, which is a shell here.
        await self.check_that_it_dies(
            lambda actor: actor.kill(), parent=["/bin/sh", "-c", '"$@"; true', "sh"]
        )

    async def check_that_it_dies(
        self, end: Callable[[subprocess.Popen[bytes]], None], parent: tuple[str, ...] | list[str] = ()
    ) -> None:
        code = (
            "import asyncio\n"
            "from headrace.scaler.actuator import NewUnit\n"
            "from headrace.scaler.actuators.ray.worker import WorkerActor\n"
            f"asyncio.run(WorkerActor(NewUnit{tuple(NEW)!r}, {{}}).run())\n"
        )
        holder = subprocess.Popen([*parent, sys.executable, "-c", code], start_new_session=True)
        try:
            await self.until(lambda: self.is_up(NEW.id), "the worker")
            end(holder)
            await self.until(lambda: not self.is_alive(NEW.id), "its end")
        finally:
            holder.kill()
            holder.wait()
            self.kill(NEW.id)
