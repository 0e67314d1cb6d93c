"""The actuator of docs/how-to/add-an-actuator.md, as a reader would make it: from the page, by a setting."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.contract.actuators.conformance import Handling, Make, Outliving, settings

from headrace.contracts.errors import SetupError, Unavailable
from headrace.scaler.actuators import catalog
from headrace.settings import load

__all__ = ["settings"]

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "how-to" / "add-an-actuator.md").read_text()


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's module, installed."""
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def create" in block
    )
    folder = tmp_path_factory.mktemp("site")
    (folder / "detached.py").write_text(code)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    del sys.modules["detached"]


@pytest.fixture
def make(module: None, settings, monkeypatch) -> Make:
    monkeypatch.setenv("HEADRACE_SCALER_ACTUATOR", "detached:create")
    return lambda: catalog.create(load())


class TestDetached(Outliving):
    """By the suite."""


class TestItsFolder(Handling):
    async def test_what_cannot_be_read_is_not_known(self, make: Make, tmp_path: Path) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)
            unit = tmp_path / "detached" / f"{name}.unit"
            unit.rename(tmp_path / "aside")
            unit.mkdir()
            await self.until(lambda: is_unknown(actuator), "the error to be seen")
            unit.rmdir()
            (tmp_path / "aside").rename(unit)
            await self.until(lambda: not is_unknown(actuator), "the folder")
            assert set(actuator.units()) == {name}
            assert actuator.exits() == []

    async def test_where_nothing_can_be_kept_it_does_not_start(self, make: Make, tmp_path: Path) -> None:
        (tmp_path / "detached").write_text("in the way")
        with pytest.raises(SetupError, match="Workers cannot be kept in"):
            await make().start()


def is_unknown(actuator) -> bool:
    try:
        actuator.units()
    except Unavailable:
        return True
    return False


def test_what_is_not_there_is_told(monkeypatch) -> None:
    for name, words in (("no_such_module:create", "No module named"), ("json:create", "has no function")):
        monkeypatch.setenv("HEADRACE_SCALER_ACTUATOR", name)
        with pytest.raises(SetupError, match=words):
            catalog.create(load())
    monkeypatch.setenv("HEADRACE_SCALER_ACTUATOR", "detached")
    with pytest.raises(SetupError, match=r"HEADRACE_SCALER_ACTUATOR is wrong.*no actuator: use process"):
        load()
