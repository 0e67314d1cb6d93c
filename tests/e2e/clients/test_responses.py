"""The Responses API by openai-python, unmodified, in its three living major versions, on two gateways."""

import ast
import json
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from tests.e2e.clients.environments import environment
from tests.e2e.clients.test_openai import SLOW_MODEL, VERSIONS, slow_function
from tests.stack import Second, Stack

SCRIPT: Final = Path(__file__).with_name("responses_checks.py")
CHECKS: Final = [
    node.name
    for node in ast.parse(SCRIPT.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]

# The first test of a version makes its environment and runs all of its checks.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Report = dict[str, str | None]


@pytest.fixture(scope="module")
def other(stack: Stack) -> Iterator[Second]:
    gateway = Second(stack)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def report_of(
    stack: Stack, other: Second, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Report]:
    """Run all checks with one major version; each version runs once."""
    stack.deploy(slow_function(tmp_path_factory.mktemp("functions")))

    @cache
    def run(major: int) -> Report:
        python = environment(f"openai-{major}")
        done = subprocess.run(
            [str(python), str(SCRIPT), stack.http_url, other.url, "echo", SLOW_MODEL],
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
def test_responses(report_of: Callable[[int], Report], major: int, check: str) -> None:
    failure = report_of(major)[check]

    assert failure is None, failure
