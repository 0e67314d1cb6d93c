"""openai-python, unmodified, in its three living major versions, against a whole running stack."""

import ast
import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from tests.e2e.clients.environments import ROOT, environment
from tests.stack import Stack

SCRIPT: Final = Path(__file__).with_name("openai_checks.py")
CHECKS: Final = [
    node.name
    for node in ast.parse(SCRIPT.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]
VERSIONS: Final = {1: "1.109.1", 2: "2.54.0", 3: "3.54.0"}
SLOW_MODEL: Final = "team/echo"

# The first test of a version makes its environment and runs all of its checks.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Report = dict[str, str | None]


@pytest.fixture(scope="module")
def report_of(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Report]:
    """Run all checks with one major version; each version runs once."""
    stack.deploy(slow_function(tmp_path_factory.mktemp("functions")))

    @cache
    def run(major: int) -> Report:
        python = environment(f"openai-{major}")
        done = subprocess.run(
            [str(python), str(SCRIPT), stack.http_url, "echo", SLOW_MODEL],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["version"] == VERSIONS[major]
        report: Report = found["report"]
        return report

    return run


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("major", VERSIONS)
def test_openai_python(report_of: Callable[[int], Report], major: int, check: str) -> None:
    failure = report_of(major)[check]

    assert failure is None, failure


def slow_function(folder: Path) -> Path:
    """A copy of functions/echo under a name with a slash, that takes 20 ms for each word."""
    manifest = (ROOT / "functions" / "echo" / "function.yaml").read_text()
    changed = manifest.replace("name: echo", f"name: {SLOW_MODEL}").replace("token_ms: 0", "token_ms: 20")
    assert changed.count(SLOW_MODEL) == changed.count("token_ms: 20") == 1
    (folder / "function.yaml").write_text(changed)
    return folder
