"""`headrace call` and `headrace models`: a look through the front door, by hand and by programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.stack import Stack

pytestmark = pytest.mark.timeout(120)


def test_an_answer_is_printed_as_it_comes(stack: Stack) -> None:
    for options in ([], ["--no-stream"]):
        done = stack.run("call", "echo", "Are you there?", *options)
        assert (done.returncode, done.stdout, done.stderr) == (0, "Are you there?\n", "")


def test_a_program_gets_the_whole_response(stack: Stack) -> None:
    done = stack.run("call", "echo", "one two three", "--max-tokens", "2", "--json")
    choice = json.loads(done.stdout)["choices"][0]
    assert (choice["message"]["content"].strip(), choice["finish_reason"]) == ("one two", "length")


def test_models_are_listed(stack: Stack) -> None:
    assert "echo" in stack.run("models").stdout
    assert "echo" in [model["id"] for model in json.loads(stack.run("models", "--json").stdout)]


def test_a_refusal_is_the_gateways_own_sentence(stack: Stack) -> None:
    for options in ([], ["--no-stream"]):
        done = stack.run("call", "no-such-model", "hello", *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("headrace: There is no model 'no-such-model'")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data-dir", "nowhere"], "No stack runs in nowhere: start one with"),
        (["--url", "http://127.0.0.1:9"], "The gateway at http://127.0.0.1:9 cannot be reached"),
        (["--url", "nonsense"], "The gateway at nonsense cannot be reached"),
    ],
)
def test_nothing_running_is_one_sentence(tmp_path: Path, options: list[str], sentence: str) -> None:
    for command in (["call", "echo", "hello"], ["call", "echo", "hello", "--no-stream"], ["models"]):
        done = subprocess.run(
            [sys.executable, "-m", "headrace", *command, *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
