"""Batches whose dispatcher is killed, whose window closes, whose owners are not each other's."""

import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.e2e.batch_client import Client, chat_line, jsonl
from tests.stack import Stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_LINES = 8_000
_SETTINGS = {
    "HEADRACE_BATCHES_LEASE_S": "3",
    "HEADRACE_BATCHES_WINDOW_LINES": "100000",
    "HEADRACE_GATEWAY_TENANT_HEADER": "x-tenant",
}
_SLOW = "schema: headrace.function/v1\nname: slow\nengine: {kind: echo, args: {slots: 4, token_ms: 50}}\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("batches"), settings=_SETTINGS)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def client(own: Stack) -> Iterator[Client]:
    with Client(own, **{"x-tenant": "one"}) as client:
        yield client


def test_killed_while_it_queues(own: Stack, client: Client) -> None:
    batch = client.create(client.upload(_content())["id"])
    wait_until(lambda: _row(own, batch["id"])["queued_lines"] > 0, "some lines to be queued")
    _kill_dispatcher(own)
    row = _row(own, batch["id"])
    assert (row["state"], row["queued_lines"] < _LINES) == ("in_progress", True)
    _check(client, client.wait(batch["id"]))


def test_killed_while_it_writes_the_files(own: Stack, client: Client) -> None:
    batch = client.create(client.upload(_content())["id"])
    wait_until(lambda: _row(own, batch["id"])["state"] == "finalizing", "the files to be written")
    _kill_dispatcher(own)
    assert client.batch(batch["id"])["status"] == "finalizing"
    _check(client, client.wait(batch["id"]))


def test_the_rest_of_an_expired_batch_runs_again(
    own: Stack, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("slow")
    (folder / "function.yaml").write_text(_SLOW)
    own.deploy(folder)
    lines = [chat_line(number, model="slow") for number in range(2_000)]
    batch = client.create(client.upload(jsonl(lines))["id"])
    wait_until(lambda: client.batch(batch["id"])["request_counts"]["completed"] > 0, "a result")
    _execute(own, "UPDATE batches SET expires_at_s = ? WHERE id = ?", time.time(), batch["id"])
    batch = client.wait(batch["id"])
    assert batch["status"] == "expired"
    done, rest = client.lines(batch["output_file_id"]), client.lines(batch["error_file_id"])
    assert done
    assert {(line["response"], line["error"]["code"]) for line in rest} == {(None, "batch_expired")}
    assert Counter(line["custom_id"] for line in done + rest) == Counter(line["custom_id"] for line in lines)
    again = client.http.post(f"/v1/batches/{batch['id']}/retry").json()
    again = client.wait(again["id"], "in_progress")
    assert again["request_counts"]["total"] == len(rest)
    client.http.post(f"/v1/batches/{again['id']}/cancel")
    assert client.wait(again["id"])["status"] == "cancelled"


def test_what_one_tenant_has_does_not_exist_for_another(own: Stack, client: Client) -> None:
    batch = client.run([chat_line(1)])
    with Client(own, **{"x-tenant": "two"}) as other:
        assert other.http.get("/v1/files").json()["data"] == []
        assert other.http.get("/v1/batches").json()["data"] == []
        file_id = batch["input_file_id"]
        for path in (f"files/{file_id}", f"files/{file_id}/content", f"batches/{batch['id']}"):
            assert other.http.get(f"/v1/{path}").status_code == 404
        assert other.http.delete(f"/v1/files/{file_id}").status_code == 404
        for action in ("cancel", "retry"):
            assert other.http.post(f"/v1/batches/{batch['id']}/{action}").status_code == 404
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions"}
        refused = other.http.post("/v1/batches", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input_file_id")


def _content() -> bytes:
    return jsonl([chat_line(number) for number in range(_LINES)])


def _check(client: Client, batch: dict[str, Any]) -> None:
    """Every line exactly once, each with its own answer."""
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": _LINES, "completed": _LINES, "failed": 0}
    told = client.all_lines(batch)
    assert len(told) == _LINES
    assert {
        line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in told
    } == {f"line-{number}": f"word {number}" for number in range(_LINES)}


def _kill_dispatcher(stack: Stack) -> None:
    state = json.loads((stack.data_dir / "run" / "stack.json").read_text())
    pid = state["pids"]["dispatcher"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid), "the dispatcher to be gone")


def _row(stack: Stack, batch_id: str) -> dict[str, Any]:
    connection = sqlite3.connect(_path(stack))
    try:
        connection.row_factory = sqlite3.Row
        return dict(connection.execute("SELECT * FROM batches WHERE id = ?", (batch_id,)).fetchone())
    finally:
        connection.close()


def _execute(stack: Stack, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(_path(stack))
    try:
        with connection:
            connection.execute(statement, values)
    finally:
        connection.close()


def _path(stack: Stack) -> str:
    return str(stack.ready["database_url"]).rpartition("://")[2].removeprefix("/")
