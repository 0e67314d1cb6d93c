"""The examples in the documents run as they stand: blocks after a `<!-- runs -->` comment.

They speak of the default ports and of the model `chat`; here both are stand-ins, so that the examples need
neither a free port 8080 nor a language model.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.parts import require
from tests.stack import Stack

_ROOT = Path(__file__).parents[2]
_PAGES = sorted([_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(
    r"^<!-- runs(?:: (?P<needs>[\w ]+))? -->\n```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_TIMEOUT_S = 120

# The first example waits for the stack.
pytestmark = pytest.mark.timeout(2 * _TIMEOUT_S)

_CHAT = """\
schema: headrace.function/v1
name: chat
engine: {kind: echo}
"""


class Example(NamedTuple):
    """A block of a document."""

    page: Path
    line: int
    kind: str
    needs: tuple[str, ...]
    text: str


def _examples() -> Iterator[Example]:
    for page in _PAGES:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Example(page, line, match["kind"], tuple((match["needs"] or "").split()), match["text"])


@pytest.fixture(scope="module")
def folder(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository's root beside a running stack."""
    made = tmp_path_factory.mktemp("docs")
    chat = made / "chat"
    chat.mkdir()
    (chat / "function.yaml").write_text(_CHAT)
    stack.deploy(chat)
    (made / ".headrace").symlink_to(stack.data_dir)
    (made / "functions").symlink_to(_ROOT / "functions")
    return made


@pytest.mark.parametrize("example", list(_examples()), ids=lambda each: f"{each.page.stem}-{each.line}")
def test_an_example_runs(example: Example, stack: Stack, folder: Path) -> None:
    for program in example.needs:
        require(program, program)
    text = example.text.replace("http://127.0.0.1:8080", stack.http_url)
    text = text.replace("127.0.0.1:9092", stack.kafka_bootstrap_servers)
    done = subprocess.run(
        _command(example.kind, text),
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_examples_were_found() -> None:
    assert len(list(_examples())) >= 5


def _command(kind: str, text: str) -> list[str]:
    if kind == "python":
        return [sys.executable, "-c", text]
    assert kind == "console"
    # "$ " begins a command; what follows without it is its continuation.
    lines = [line.removeprefix("$ ") for line in text.splitlines()]
    return ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
