"""The `process` actuator, by the suite, and what only it can meet."""

from pathlib import Path

import pytest
from tests.contract.actuators.conformance import (
    MODEL,
    VERSION,
    Conformance,
    Handling,
    Make,
    Told,
    settings,
)

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Cause, NewUnit, Orders
from headrace.scaler.actuators import catalog

__all__ = ["settings"]


@pytest.fixture
def make(settings) -> Make:
    return lambda: catalog.create(settings)


class TestProcesses(Conformance):
    """By the suite."""


class TestThisMachine(Handling):
    async def test_a_process_that_cannot_be_started_is_no_end_of_the_others(
        self, make: Make, tmp_path: Path
    ) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)
            self.put_in_the_way(tmp_path)

            with pytest.raises(Unavailable, match=r"w-late cannot be started: .*File exists"):
                await actuator.act(Orders(1, [NewUnit("w-late", MODEL, VERSION)]))

            assert set(actuator.units()) == {name}

    async def test_an_end_is_told_whatever_can_be_read_of_it(self, make: Make, tmp_path: Path) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)
            self.put_in_the_way(tmp_path)

            self.kill(name)

            (told,) = await Told(actuator).until(1)
            assert (told.unit.id, told.cause, told.in_flight) == (name, Cause.KILLED, ())
            assert actuator.units() == {}

    def put_in_the_way(self, cache_dir: Path) -> None:
        """Journals can be neither written nor read any more."""
        journals = cache_dir / "journals"
        journals.rename(cache_dir / "aside")
        journals.write_text("")
