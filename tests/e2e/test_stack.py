"""The embedded stack as its user meets it: `headrace up`, `status`, `down`, and what can go wrong."""

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.stack import ROOT, Stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PARTS = {"kafka", "s3", "gateway", "dispatcher", "scaler"}
RECOVERED_S = 60.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """A stack for a test that breaks it; not started."""
    stack = Stack(tmp_path)
    yield stack
    stack.stop()


@pytest.fixture(scope="class")
def recovering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack whose parts are killed one after the other."""
    stack = Stack(tmp_path_factory.mktemp("recovering"))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def ask(stack: Stack, text: str = "hello") -> str:
    """One chat completion."""
    body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"{stack.http_url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: str = json.load(answer)["choices"][0]["message"]["content"]
        return content


def answers_again(stack: Stack) -> bool:
    try:
        return ask(stack) == "hello"
    except (OSError, urllib.error.URLError):
        return False


class TestRunning:
    def test_ready_file_says_where_everything_is(self, stack: Stack) -> None:
        ready = stack.ready

        assert set(ready) >= {"http_url", "kafka_bootstrap_servers", "s3_endpoint_url", "database_url"}
        assert ready["data_dir"] == str(stack.data_dir)
        assert set(ready["pids"]) >= PARTS
        assert all(psutil.pid_exists(pid) for pid in ready["pids"].values())
        assert "SECRET" not in json.dumps(ready)

    def test_serves_at_once_when_ready(self, stack: Stack) -> None:
        assert ask(stack, "at once") == "at once"

    def test_state_with_secrets_is_private(self, stack: Stack) -> None:
        folder = stack.data_dir
        for path in (folder / "run" / "stack.json", *(folder / "secrets").iterdir()):
            assert path.stat().st_mode & 0o077 == 0

    def test_status_lists_processes_and_workers(self, stack: Stack) -> None:
        done = stack.run("status", "--json")
        found = json.loads(done.stdout)

        assert done.returncode == 0
        assert {process["name"] for process in found["processes"]} >= PARTS
        assert all(process["alive"] and process["memory_bytes"] for process in found["processes"])
        worker = next(worker for worker in found["workers"] if worker["model"] == "echo")
        assert set(worker) >= {"id", "pid", "model", "version", "state", "in_flight"}
        assert worker["state"] == "ready"
        assert psutil.pid_exists(worker["pid"])

    def test_second_start_in_the_same_folder_names_the_first(self, stack: Stack) -> None:
        done = stack.run("up")

        assert done.returncode == 1
        assert f"pid {stack.pid}" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_two_stacks_run_side_by_side(self, stack: Stack, own: Stack) -> None:
        own.start()

        assert ask(own, "second") == "second"
        assert ask(stack, "first") == "first"


class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signal_leaves_no_process(self, own: Stack, number: signal.Signals) -> None:
        own.start()

        os.kill(own.pid, number)

        assert own.wait() == 0
        assert own.processes() == []
        assert own.run("status").returncode == 3

    def test_signal_during_the_start(self, own: Stack) -> None:
        own.begin()
        wait_until(lambda: len(own.processes()) >= 2, "the first processes")

        os.kill(own.pid, signal.SIGTERM)

        assert own.wait() == 0
        assert own.processes() == []

    def test_second_signal_hurries(self, own: Stack) -> None:
        own.start()

        os.kill(own.pid, signal.SIGINT)
        time.sleep(0.1)
        os.kill(own.pid, signal.SIGINT)

        own.wait()
        wait_until(lambda: own.processes() == [], "every process to end", 5.0)

    def test_down_stops_it_and_says_when_nothing_runs(self, own: Stack) -> None:
        own.start()

        stopped = own.run("down")
        again = own.run("down")

        assert (stopped.returncode, again.returncode) == (0, 0)
        assert own.processes() == []
        assert "No stack runs" in again.stdout

    def test_down_cleans_after_a_killed_supervisor(self, own: Stack) -> None:
        own.start()
        own.kill()

        assert own.run("status").returncode == 3
        assert own.run("down").returncode == 0
        assert own.processes() == []

    def test_killed_supervisor_then_up_again_keeps_the_data(self, own: Stack) -> None:
        own.start()
        before = {process.pid for process in own.processes()}
        marker = own.run("publish", "echo", "kept", "--wait-s", "20", "--json")
        assert marker.returncode == 0, marker.stderr
        own.kill()

        own.start()

        assert not before & {process.pid for process in own.processes()}
        assert ask(own) == "hello"
        kept = own.run("tail", "results", "--beginning", "-n", "1", "--timeout-s", "20", "--json")
        assert json.loads(marker.stdout)["id"] in kept.stdout


class TestRecovering:
    @pytest.mark.parametrize("name", ["gateway", "scaler", "dispatcher", "s3", "kafka"])
    def test_killed_process_comes_back(self, recovering: Stack, name: str) -> None:
        victim = _pid_of(recovering, name)
        assert victim is not None

        os.kill(victim, signal.SIGKILL)

        wait_until(lambda: _pid_of(recovering, name) not in {None, victim}, f"a new {name}", RECOVERED_S)
        wait_until(lambda: answers_again(recovering), "an answer", RECOVERED_S)

    def test_killed_worker_comes_back(self, recovering: Stack) -> None:
        victim = recovering.status()["workers"][0]["pid"]

        os.kill(victim, signal.SIGKILL)

        wait_until(lambda: answers_again(recovering), "an answer", RECOVERED_S)
        assert victim not in {worker["pid"] for worker in recovering.status()["workers"]}


class TestRefusing:
    @pytest.mark.parametrize("option", ["--http-port", "--kafka-port", "--s3-port"])
    def test_taken_port(self, tmp_path: Path, option: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            stack = Stack(tmp_path, option, str(port))
            stack.begin()

            assert stack.wait() == 1

        assert f"{port}" in stack.said
        assert option in stack.said
        assert "Traceback" not in stack.said

    def test_foreign_folder(self, own: Stack) -> None:
        own.data_dir.mkdir()
        (own.data_dir / "thesis.tex").write_text("do not touch")
        own.begin()

        assert own.wait() == 1
        assert "not a Headrace data folder" in own.said
        assert [path.name for path in own.data_dir.iterdir()] == ["thesis.tex"]

    def test_wrong_function(self, tmp_path: Path) -> None:
        stack = Stack(tmp_path, functions=[ROOT / "docs"])
        stack.begin()

        assert stack.wait() == 1
        assert "function.yaml" in stack.said
        assert stack.processes() == []


def _pid_of(stack: Stack, name: str) -> int | None:
    state = json.loads((stack.data_dir / "run" / "stack.json").read_text())
    pid: int | None = state["pids"].get(name)
    return pid
