"""`headrace batch` on a running stack."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.batch_client import Client, chat_line, jsonl
from tests.stack import Stack

pytestmark = pytest.mark.timeout(240)

IDLE = """
schema: headrace.function/v1
name: test/idle
engine: {kind: echo}
scaling: {min_workers: 0, max_workers: 0}
"""


def said(stack: Stack, *arguments: str) -> Any:
    done = stack.run("batch", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_file_is_run_once_and_fetched_as_often_as_one_likes(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    bodies = [{"messages": [{"role": "user", "content": f"word {number}"}]} for number in range(20)]
    file.write_bytes(jsonl(bodies))
    first = stack.run("batch", "run", str(file), "--model", "echo")
    assert first.returncode == 0, first.stderr
    out = tmp_path / "in.out.jsonl"
    assert first.stdout.split() == [str(out)]
    answers = {
        line["custom_id"]: line["response"]["body"] for line in map(json.loads, out.read_text().splitlines())
    }
    told = {name: body["choices"][0]["message"]["content"] for name, body in answers.items()}
    assert told == {str(number + 1): f"word {number}" for number in range(20)}

    batch_id = first.stderr.split()[1]
    out.unlink()
    second = stack.run("batch", "run", str(file), "--model", "echo")
    assert (second.returncode, second.stderr.split()[1]) == (0, batch_id)
    assert len(out.read_bytes().splitlines()) == 20
    anew = stack.run("batch", "run", str(file), "--model", "echo", "--again")
    assert anew.returncode == 0
    assert anew.stderr.split()[1] != batch_id

    assert said(stack, "get", batch_id)["status"] == "completed"
    assert batch_id in [batch["id"] for batch in said(stack, "list")]
    assert stack.run("batch", "get", "batch_none").returncode == 1


def test_lines_that_fail_are_in_a_file_of_their_own(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    file.write_bytes(jsonl([chat_line(1), chat_line(2, temperature=7)]))
    done = stack.run("batch", "run", str(file), "--out", str(tmp_path / "out.jsonl"))
    assert done.returncode == 1
    assert "line 2: " in done.stderr


def test_a_batch_that_nobody_serves_can_be_cancelled(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text(IDLE)
    deployed = stack.run("deploy", "--json", str(tmp_path))
    assert deployed.returncode == 0, deployed.stderr
    file = tmp_path / "idle.jsonl"
    lines = [chat_line(number, model="test/idle") for number in range(30)]
    file.write_bytes(jsonl(lines))
    with Client(stack) as client:
        batch = client.create(client.upload(file.read_bytes())["id"])
        client.wait(batch["id"], "in_progress")
        assert "cancelling" in stack.run("batch", "cancel", batch["id"]).stdout
        batch = client.wait(batch["id"])
        assert batch["status"] == "cancelled"
        rest = client.lines(batch["error_file_id"])
    assert batch["output_file_id"] is None
    assert {line["custom_id"] for line in rest} == {line["custom_id"] for line in lines}
    assert {line["error"]["code"] for line in rest} == {"batch_cancelled"}
