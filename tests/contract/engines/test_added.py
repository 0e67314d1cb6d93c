"""The engine of docs/how-to/add-an-engine.md, as a reader would make it: from the page, by its manifest."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml
from tests.contract.engines.conformance import Abilities, Conformance

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import parse
from headrace.core.ports import Engine
from headrace.engines import catalog

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "how-to" / "add-an-engine.md").read_text()
MANIFEST: Final = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's module, installed."""
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def create" in block
    )
    folder = tmp_path_factory.mktemp("site")
    (folder / "bigrams.py").write_text(code)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    del sys.modules["bigrams"]


async def _idle(engine: Engine) -> None:
    """Nothing runs in it outside of the callers' tasks."""


class TestBigrams(Conformance):
    """By the suite."""

    abilities = Abilities(idle=_idle, has_logprobs=False, long_prompt_words=None)

    @pytest.fixture
    async def engine(self, module: None) -> Engine:
        engine = catalog.create(parse(yaml.safe_load(MANIFEST), where="page"), ROOT / "README.md")
        await engine.start()
        return engine


def test_what_is_not_there_is_told() -> None:
    for kind, words in (("no_such_module:create", "No module named"), ("json:create", "has no function")):
        with pytest.raises(SetupError, match=words):
            catalog.create(parse({"name": "x", "engine": {"kind": kind}}, where="test"), None)
    with pytest.raises(SetupError, match="no engine: use echo"):
        parse({"name": "x", "engine": {"kind": "bigrams"}}, where="test")
