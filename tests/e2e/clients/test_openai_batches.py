"""Files and batches by openai-python, unmodified, in its three living major versions."""

import ast
import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from tests.e2e.clients.environments import environment
from tests.stack import Stack

SCRIPT: Final = Path(__file__).with_name("batch_checks.py")
CHECKS: Final = [
    node.name
    for node in ast.parse(SCRIPT.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]

# The first test of a version makes its environment and runs all of its checks.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Report = dict[str, str | None]


@pytest.fixture(scope="module")
def report_of(stack: Stack) -> Callable[[int], Report]:
    """Run all checks with one major version; each version runs once."""

    @cache
    def run(major: int) -> Report:
        done = subprocess.run(
            [str(environment(f"openai-{major}")), str(SCRIPT), stack.http_url, "echo"],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report: Report = json.loads(done.stdout)["report"]
        return report

    return run


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("major", [1, 2, 3])
def test_openai_python(report_of: Callable[[int], Report], major: int, check: str) -> None:
    failure = report_of(major)[check]

    assert failure is None, failure
