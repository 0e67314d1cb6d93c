"""`headrace up --watch`: an edited function is served anew, a broken one leaves the old."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.stack import Stack, wait_until

CODE = "def predict(input, context):\n    return {}\n"
SLOW = "import time\n\ndef predict(input, context):\n    time.sleep(input)\n    return {}\n"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("functions") / "edited"
    folder.mkdir()
    (folder / "function.yaml").write_text("name: edited\nengine: {kind: python}\n")
    (folder / "handler.py").write_text(CODE.format(1))
    return folder


@pytest.fixture(scope="module")
def watching(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), "--watch", functions=[folder])
    try:
        stack.start()
        wait_until(lambda: "watching" in stack.said, "the watching to begin")
        yield stack
    finally:
        stack.stop()


def ask(stack: Stack, value: float = 0) -> object:
    asked = {"model": "edited", "input": value}
    answer = httpx.post(f"{stack.http_url}/v1/predictions", json=asked, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["output"]


def old_has_gone(stack: Stack) -> None:
    """Wait for one worker to be left: both have partitions, and answer, until the old one has left."""
    wait_until(
        lambda: sum(worker["model"] == "edited" for worker in stack.status()["workers"]) == 1,
        "the old worker to have gone",
    )


def edit(folder: Path, code: str) -> None:
    (folder / "handler.py").write_text(code)


def test_an_edit_is_served_and_what_runs_is_finished_by_the_old(watching: Stack, folder: Path) -> None:
    assert ask(watching) == 1
    edit(folder, SLOW.format(2))
    wait_until(lambda: ask(watching) == 2, "the edited handler to answer")
    wait_until(lambda: watching.said.count(" serves, ") == 1, "the word that it serves")
    old_has_gone(watching)

    found: list[object] = []
    running = threading.Thread(target=lambda: found.append(ask(watching, 6)))
    running.start()
    time.sleep(1)
    edit(folder, CODE.format(3))
    wait_until(lambda: ask(watching) == 3, "the edited handler to answer")
    running.join()
    assert found == [2]
    old_has_gone(watching)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def predict(input, context:\n", "handler.py:1: SyntaxError"),
        ("\nimport nothing_like_this\n", "handler.py:2: ModuleNotFoundError"),
        ("def predict(input, context):\n    return 1\n\n1 / 0\n", "handler.py:4: ZeroDivisionError"),
    ],
)
def test_a_broken_edit_keeps_the_old_one_and_says_why(
    watching: Stack, folder: Path, code: str, told: str
) -> None:
    before = ask(watching)
    edit(folder, code)
    wait_until(lambda: f"the old version stays: {told}" in watching.said, "the reason")
    assert ask(watching) == before


def test_a_manifest_that_is_wrong_is_told_with_its_line(watching: Stack, folder: Path) -> None:
    before = ask(watching)
    good = (folder / "function.yaml").read_text()
    (folder / "function.yaml").write_text(f"{good}limits: {{deadlines: 3}}\n")
    wait_until(lambda: "function.yaml:3: limits.deadlines" in watching.said, "the reason")
    assert ask(watching) == before
    (folder / "function.yaml").write_text(good)


def test_what_was_broken_can_be_mended(watching: Stack, folder: Path) -> None:
    edit(folder, CODE.format(4))
    wait_until(lambda: ask(watching) == 4, "the mended handler to answer")
