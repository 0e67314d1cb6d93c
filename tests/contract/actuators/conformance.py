"""What every actuator must do; see `headrace.scaler.actuator`.

An actuator's test file subclasses `Conformance`, or `Outliving` when its units go on after the scaler's end,
and has a fixture `make`, which makes an instance that is not started. Workers are real processes, of a model
that nobody has deployed: without Kafka they wait for it, until they are told to end.
"""

import asyncio
import contextlib
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from headrace.contracts.errors import HeadraceError, Unavailable
from headrace.scaler.actuator import Actuator, Cause, Ending, Exit, NewUnit, Orders, Unit
from headrace.settings import Settings, load

Make = Callable[[], Actuator]

MODEL = "org/name-1.5"
VERSION = "0123456789ab"
LONG_S = 40.0


@pytest.fixture
def settings(monkeypatch, tmp_path) -> Settings:
    """Of a scaler whose workers find no Kafka."""
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_CACHE_DIR", str(tmp_path))
    return load()


def processes(unit_id: str) -> list[psutil.Process]:
    """The worker's on this machine; not those of a shell round it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            is_worker = process.name().startswith("python") and "worker" in words and unit_id in words
            if is_worker and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _catches_sigterm(process: psutil.Process) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


class Told:
    """All ends that an actuator has told of."""

    def __init__(self, actuator: Actuator) -> None:
        self._actuator = actuator
        self.exits: list[Exit] = []

    async def until(self, number: int) -> list[Exit]:
        """Wait for so many; whenever there is one, `changed` was set."""
        async with asyncio.timeout(LONG_S):
            while len(self.exits) < number:
                self._actuator.changed.clear()
                self.exits += self._actuator.exits()
                if len(self.exits) < number:
                    await self._actuator.changed.wait()
        return self.exits


class Handling:
    """How tests work with units; who has no processes on this machine says how else."""

    def kill(self, unit_id: str) -> None:
        """End a unit's worker as somebody else would."""
        for process in processes(unit_id):
            process.kill()

    def crash(self, unit_id: str) -> None:
        """End a unit's worker as a fault in it would."""
        for process in processes(unit_id):
            process.send_signal(signal.SIGSEGV)

    def is_alive(self, unit_id: str) -> bool:
        """Whether the unit has a worker."""
        return bool(processes(unit_id))

    def is_up(self, unit_id: str) -> bool:
        """Whether the worker has got so far that SIGTERM makes it drain."""
        return any(map(_catches_sigterm, processes(unit_id)))

    @asynccontextmanager
    async def started(self, make: Make) -> AsyncIterator[Actuator]:
        """An instance that works; what it has started is ended."""
        actuator = make()
        await actuator.start()
        await actuator.lead(1)
        try:
            yield actuator
        finally:
            with contextlib.suppress(HeadraceError):
                left = tuple(actuator.units())
                await actuator.act(Orders(1_000_000, ends=[Ending(each, force=True) for each in left]))
                await self.until(lambda: not any(map(self.is_alive, left)), "no worker left")
            await actuator.stop()

    async def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until it is so."""
        until_s = time.monotonic() + LONG_S
        while not is_so():
            assert time.monotonic() < until_s, f"waited {LONG_S:g} s for {what}"
            await asyncio.sleep(0.05)

    async def order(self, actuator: Actuator, number: int = 1, epoch: int = 1) -> list[str]:
        """Start so many workers, and wait until each runs; their units' ids."""
        before = set(actuator.units())
        new = [NewUnit(f"w-{uuid.uuid4().hex[:12]}", MODEL, VERSION) for _ in range(number)]
        await actuator.act(Orders(epoch, starts=new, targets={MODEL: len(before) + number}))
        if actuator.names_units:
            assert set(actuator.units()) - before == {each.id for each in new}, "shown at once"
        else:
            await self.until(lambda: len(set(actuator.units()) - before) == number, "the new units")
        mine = sorted(set(actuator.units()) - before)
        await self.until(lambda: all(map(self.is_alive, mine)), "the workers to run")
        return mine


@pytest.mark.timeout(120)
class Conformance(Handling):
    """The tests."""

    async def test_what_was_ordered_is_shown(self, make: Make) -> None:
        async with self.started(make) as actuator:
            assert actuator.units() == {}
            before_s = time.time()

            (name,) = await self.order(actuator)

            unit = actuator.units()[name]
            assert (unit.id, unit.model, unit.version, unit.stopping) == (name, MODEL, VERSION, False)
            assert before_s - 5 < unit.started_at_s < time.time() + 5
            assert actuator.exits() == []

    async def test_an_end_that_nobody_asked_for_is_told_once(self, make: Make) -> None:
        async with self.started(make) as actuator:
            killed, crashed, other = await self.order(actuator, 3)

            self.kill(killed)
            self.crash(crashed)

            told = await Told(actuator).until(2)
            causes = {each.unit.id: each.cause for each in told}
            assert causes == {killed: Cause.KILLED, crashed: Cause.CRASHED}
            for each in told:
                assert each.unit.model == MODEL
                assert each.reason
                assert each.unit.started_at_s <= each.at_s <= time.time()
            if all(each.is_gone for each in told):
                assert set(actuator.units()) == {other}
            await asyncio.sleep(0.5)
            assert actuator.exits() == []

    async def test_the_one_that_is_named_ends(self, make: Make) -> None:
        async with self.started(make) as actuator:
            first, named, last = await self.order(actuator, 3)
            await self.until(lambda: self.is_up(named), "the worker to begin")

            await actuator.act(Orders(1, ends=[Ending(named)], targets={MODEL: 2}))

            assert gone_or_stopping(actuator.units().get(named)), "shown at once"
            (told,) = await Told(actuator).until(1)
            assert (told.unit.id, told.cause) == (named, Cause.ASKED)
            assert set(actuator.units()) == {first, last}
            assert not self.is_alive(named)
            assert self.is_alive(first)
            assert self.is_alive(last)

    async def test_to_be_told_twice_is_no_hurry(self, make: Make) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)
            await self.until(lambda: self.is_up(name), "the worker to begin")

            for _ in range(3):
                await actuator.act(Orders(1, ends=[Ending(name)], targets={MODEL: 0}))

            (told,) = await Told(actuator).until(1)
            assert told.cause is Cause.ASKED
            await actuator.act(Orders(1, ends=[Ending(name)], targets={MODEL: 0}))
            assert actuator.units() == {}

    async def test_by_force_it_ends_at_once(self, make: Make) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)

            await actuator.act(Orders(1, ends=[Ending(name, force=True)], targets={MODEL: 0}))

            (told,) = await Told(actuator).until(1)
            assert (told.unit.id, told.cause) == (name, Cause.KILLED)
            await self.until(lambda: not self.is_alive(name), "the worker's end")

    async def test_to_end_who_is_not_there_is_no_error(self, make: Make) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)

            for force in (False, True):
                await actuator.act(Orders(1, ends=[Ending("nobody", force)], targets={MODEL: 1}))

            assert set(actuator.units()) == {name}
            assert actuator.exits() == []

    async def test_one_goes_and_another_comes_by_the_same_orders(self, make: Make) -> None:
        async with self.started(make) as actuator:
            (old,) = await self.order(actuator)
            new = NewUnit(f"w-{uuid.uuid4().hex[:12]}", MODEL, "ba9876543210")

            await actuator.act(Orders(1, [new], [Ending(old)], {MODEL: 1}))

            (told,) = await Told(actuator).until(1)
            assert told.unit.id == old
            (unit,) = actuator.units().values()
            assert unit.version == new.version

    async def test_an_instance_that_ends_is_followed_by_another(self, make: Make) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)
            await actuator.stop()
            async with self.started(make) as follower:
                await self.check_after_restart(follower, name)

    async def check_after_restart(self, follower: Actuator, name: str) -> None:
        """Units that end with the scaler have ended when `stop` returns."""
        assert follower.units() == {}
        assert not self.is_alive(name)


class Outliving(Conformance):
    """Units that go on when the scaler ends."""

    async def check_after_restart(self, follower: Actuator, name: str) -> None:
        """The next scaler finds them, and ends them."""
        assert set(follower.units()) == {name}
        assert self.is_alive(name)
        await follower.act(Orders(2, ends=[Ending(name)], targets={MODEL: 0}))
        (told,) = await Told(follower).until(1)
        assert (told.unit.id, told.cause) == (name, Cause.ASKED)

    async def test_an_end_that_nobody_saw_is_told_to_the_next(self, make: Make) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)
            await actuator.stop()
            self.kill(name)
            async with self.started(make) as follower:
                await self.until(lambda: name not in follower.units(), "the unit to go")
                (told,) = await Told(follower).until(1)
                assert (told.unit.id, told.cause) == (name, Cause.KILLED)

    async def test_who_stands_back_leaves_them_alone(self, make: Make) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)

            await actuator.stand_back()

            await asyncio.sleep(0.5)
            assert self.is_alive(name)
            assert set(actuator.units()) == {name}

    async def test_orders_of_who_acted_before_come_to_nothing(self, make: Make) -> None:
        async with self.started(make) as first, self.started(make) as second:
            (name,) = await self.order(first, epoch=7)
            await self.until(lambda: set(second.units()) == {name}, "the other to see it")
            (other,) = await self.order(second, epoch=8)
            late = NewUnit(f"w-{uuid.uuid4().hex[:12]}", MODEL, VERSION)

            with pytest.raises(Unavailable):
                await first.act(Orders(7, [late], [Ending(name, force=True)], {MODEL: 5}))

            await asyncio.sleep(0.5)
            assert set(second.units()) == {name, other}
            assert not any(unit.stopping for unit in second.units().values())
            assert self.is_alive(name)
            assert not self.is_alive(late.id)


def gone_or_stopping(unit: Unit | None) -> bool:
    """It may have ended already."""
    return unit is None or unit.stopping
