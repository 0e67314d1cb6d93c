"""Real parts for tests: a Kafka of this test session, and a whole running stack."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.devstack.broker import Broker
from headrace.devstack.distribution import Distribution
from headrace.devstack.ports import HOST, free
from headrace.devstack.probe import kafka_answers
from headrace.settings import load

START_S = 60.0


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of an empty broker; all tests share it, so name topics and groups by the test."""
    port, controller_port = free(2)
    folder = tmp_path_factory.mktemp("kafka")
    distribution = Distribution(load().cache_dir.expanduser())
    service = asyncio.run(Broker(folder, distribution, port, controller_port).prepare(say=print))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            service.command, stdout=log, stderr=log, env={**os.environ, **service.variables}
        )
    try:
        wait_until(lambda: asyncio.run(kafka_answers(port)), process, folder / "log.txt")
        yield f"{HOST}:{port}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=service.stop_s)
        finally:
            process.kill()
            process.wait()


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a process to serve; fails with its log when it ends or takes a minute."""
    until_s = time.monotonic() + START_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > until_s:
            pytest.fail(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)
