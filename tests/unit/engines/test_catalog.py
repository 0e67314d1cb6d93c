"""An engine is chosen by the manifest; what is wrong with it is told in a sentence."""

import subprocess
import sys

import pytest

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import Manifest, parse
from headrace.engines import catalog
from headrace.engines.echo import EchoEngine


def _manifest(kind: str, **args: object) -> Manifest:
    return parse({"name": "x", "engine": {"kind": kind, "args": args}}, where="test")


def test_the_manifest_chooses() -> None:
    engine = catalog.create(_manifest("echo", slots=7), None)
    assert isinstance(engine, EchoEngine)
    assert engine.capacity == 7


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"slots": 0}, r"Function 'x': engine\.args\.slots: .*greater than or equal to 1"),
        ({"token_sm": 1}, r"Function 'x': engine\.args\.token_sm: Extra inputs"),
    ],
)
def test_wrong_arguments_are_told(args: dict[str, object], told: str) -> None:
    with pytest.raises(SetupError, match=told):
        catalog.create(_manifest("echo", **args), None)


def test_an_engine_that_is_not_installed_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "headrace.engines.llamacpp", raising=False)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(SetupError, match=r"needs xllamacpp: .* pip install 'headrace\[llamacpp\]'"):
        catalog.create(_manifest("llamacpp"), None)


def test_only_the_chosen_engine_is_imported() -> None:
    script = """
import sys
from headrace.contracts.manifest import parse
from headrace.engines import catalog
catalog.create(parse({"name": "x", "engine": {"kind": "echo"}}, where="test"), None)
sys.exit(any(name in sys.modules for name in ("xllamacpp", "headrace.engines.llamacpp", "torch")))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
