"""Child processes, with real ones."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from headrace.contracts.errors import SetupError
from headrace.devstack.processes import (
    MARK,
    Service,
    created_s,
    is_alive,
    last_words,
    marked,
    memory_bytes,
    run,
    sentence,
    spawn,
    sweep,
)


def python(code: str, *, stop_s: float = 10.0, **variables: str) -> Service:
    return Service("part", [sys.executable, "-c", code], variables, stop_s=stop_s)


STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


async def until_it_says(log: Path, word: str) -> None:
    while word not in log.read_text():
        await asyncio.sleep(0.02)


class TestRun:
    async def test_gives_what_was_printed(self) -> None:
        assert await run(python("print('a'); print('b')")) == "a\nb"

    async def test_tells_each_line(self) -> None:
        said: list[str] = []

        await run(python("print('a'); print('b')"), said.append)

        assert said == ["a", "b"]

    async def test_failure_is_its_last_word(self) -> None:
        with pytest.raises(SetupError, match=r"^no such topic$"):
            await run(python("import sys; sys.exit('what came before\\nheadrace: no such topic\\n')"))

    async def test_cancelling_ends_it(self, tmp_path: Path) -> None:
        mark = {MARK: str(tmp_path)}
        task = asyncio.create_task(run(python(STUBBORN, **mark)))
        while not marked(tmp_path):
            await asyncio.sleep(0.02)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert marked(tmp_path) == []


class TestSpawn:
    async def test_output_goes_to_the_log(self, tmp_path: Path) -> None:
        log = tmp_path / "part.log"

        child = await spawn(python("import sys; print('out'); print('err', file=sys.stderr)"), log)
        await child.process.wait()

        assert sorted(log.read_text().split()) == ["err", "out"]

    async def test_large_log_is_put_aside(self, tmp_path: Path) -> None:
        log = tmp_path / "part.log"
        log.write_bytes(b"x" * (11 * 2**20))

        child = await spawn(python("print('new')"), log)
        await child.process.wait()

        assert log.read_text() == "new\n"
        assert log.with_suffix(".log.1").exists()

    async def test_has_a_session_of_its_own(self, tmp_path: Path) -> None:
        child = await spawn(python("import time; time.sleep(60)"), tmp_path / "log")

        assert os.getsid(child.process.pid) == child.process.pid
        await child.stop()

    async def test_parent_pipe_ends_with_us(self, tmp_path: Path) -> None:
        service = Service("part", [sys.executable, "-c", "input()"], {}, parent_pipe=True)
        child = await spawn(service, tmp_path / "log")
        assert child.process.stdin is not None

        child.process.stdin.close()

        assert await child.process.wait() == 1
        assert "EOFError" in last_words(child.log)

    async def test_stop_is_bounded(self, tmp_path: Path) -> None:
        child = await spawn(python(STUBBORN, stop_s=0.2), tmp_path / "log")
        await until_it_says(child.log, "up")

        await child.stop()

        assert child.process.returncode == -signal.SIGKILL

    async def test_kill_takes_its_children_too(self, tmp_path: Path) -> None:
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STUBBORN!r}])"
        child = await spawn(python(code, **{MARK: str(tmp_path)}), tmp_path / "log")
        await until_it_says(child.log, "up")
        assert len(marked(tmp_path)) == 2

        child.kill()
        await child.process.wait()

        # Only the child is ours to wait for; its own child ends at about the same time.
        async with asyncio.timeout(5):
            while [p for p in marked(tmp_path) if p.status() != psutil.STATUS_ZOMBIE]:
                await asyncio.sleep(0.02)


class TestIdentity:
    def test_ourselves(self) -> None:
        assert is_alive({"pid": os.getpid(), "created_s": created_s(os.getpid())})
        assert (memory_bytes(os.getpid()) or 0) > 2**20

    def test_pid_that_was_given_to_another(self) -> None:
        assert not is_alive({"pid": os.getpid(), "created_s": time.time() - 86_400})

    def test_nobody(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            record = {"pid": process.pid, "created_s": created_s(process.pid)}

        assert not is_alive(record)
        assert created_s(process.pid) is None


class TestSweep:
    def test_ends_what_is_recorded_or_marked_and_nothing_else(self, tmp_path: Path) -> None:
        def sleeper(folder: Path | None) -> subprocess.Popen[bytes]:
            environment = {**os.environ, **({} if folder is None else {MARK: str(folder)})}
            return subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(60)"], env=environment, start_new_session=True
            )

        recorded, carries_mark, other_stack, reused = (
            sleeper(None),
            sleeper(tmp_path),
            sleeper(tmp_path / "other"),
            sleeper(None),
        )
        try:
            records = [
                {"name": "kafka", "pid": recorded.pid, "created_s": created_s(recorded.pid)},
                {"name": "s3", "pid": reused.pid, "created_s": 1.0},
            ]

            found = sweep(tmp_path, records)

            assert found == ["kafka", "worker"]
            assert not psutil.pid_exists(recorded.pid)
            assert not psutil.pid_exists(carries_mark.pid)
            assert other_stack.poll() is reused.poll() is None
        finally:
            for process in (recorded, carries_mark, other_stack, reused):
                process.kill()
                process.wait()

    def test_nothing_left(self, tmp_path: Path) -> None:
        assert sweep(tmp_path, ()) == []


class TestLastWords:
    def test_last_line_with_words(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("one\ntwo\n\n  \n")

        assert last_words(log) == "two"

    def test_java_exception_without_its_calls(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("java.net.BindException: Address in use\n\tat a.b(C.java:1)\n\t... 5 more\n")

        assert last_words(log) == "java.net.BindException: Address in use"

    @pytest.mark.parametrize("content", [None, ""])
    def test_silence(self, tmp_path: Path, content: str | None) -> None:
        log = tmp_path / "log"
        if content is not None:
            log.write_text(content)

        assert last_words(log) == "it said nothing"

    def test_sentence_without_the_programs_name(self) -> None:
        assert sentence("headrace gateway: port taken: 80") == "port taken: 80"
        assert sentence("java.net.BindException: in use") == "java.net.BindException: in use"


async def test_one_that_stands_back(tmp_path):
    service = Service("part", python("import time; time.sleep(60)").command, {}, nice=5)
    child = await spawn(service, tmp_path / "log")
    try:
        assert psutil.Process(child.process.pid).nice() == 5
        group = Path(f"/proc/{child.process.pid}/autogroup")
        if group.exists():
            assert group.read_text().split()[-1] == "5"
    finally:
        child.kill()
        await child.process.wait()
