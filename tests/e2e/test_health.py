"""Workers that are not well, and versions: what is found, what is done, and that no request suffers."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.elastic import Elastic
from tests.stack import Stack, wait_until

from headrace.contracts import headers as h
from headrace.contracts.events import Obituary
from headrace.contracts.topics import Topics
from headrace.core.ports import Outgoing
from headrace.kafka.producer import Producer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_TOPICS = Topics()
_MANIFEST = """\
schema: headrace.function/v1
name: frail
engine: {kind: python}
health: {canary: {input: ping}, every_s: 0.5, timeout_s: 2, failures: 2, start_timeout_s: 5}
scaling: {min_workers: 2, max_workers: 2}
retry: {delays: [5s]}
"""
# A file in `faults` says what is wrong with it from now on.
_HANDLER = """\
import time
from pathlib import Path

FAULTS = Path(FOLDER)
VERSION = NUMBER


def load(context):
    while (FAULTS / f"start{VERSION}").exists():
        time.sleep(0.05)
    if (FAULTS / f"load{VERSION}").exists():
        raise RuntimeError("the weights are broken")


def predict(input, context):
    if (FAULTS / "wrong").exists():
        raise RuntimeError("the card fell off")
    while input == "ping" and (FAULTS / "hang").exists():
        time.sleep(0.05)
    return {"input": input, "version": VERSION}
"""


class Frail(Elastic):
    """The function, its versions and its faults."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        super().__init__(stack, "frail")
        self._folder = folder
        self._faults = folder / "faults"

    @classmethod
    def write(cls, folder: Path, version: int, manifest: str = _MANIFEST) -> Path:
        (folder / "faults").mkdir(exist_ok=True)
        function = folder / "frail"
        function.mkdir(exist_ok=True)
        (function / "function.yaml").write_text(manifest)
        code = _HANDLER.replace("FOLDER", repr(str(folder / "faults"))).replace("NUMBER", str(version))
        (function / "handler.py").write_text(code)
        return function

    def deploy(self, version: int, manifest: str = _MANIFEST) -> str:
        done = self.stack.run("deploy", "--json", str(self.write(self._folder, version, manifest)))
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["version"])

    def break_(self, fault: str) -> None:
        (self._faults / fault).touch()

    def mend(self, fault: str) -> None:
        (self._faults / fault).unlink()

    def processes(self) -> int:
        """Workers that run, whatever they say of themselves."""
        found = 0
        for process in self.stack.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += "worker" in process.cmdline()
        return found

    def predict(self, value: object = 1) -> Any:
        asked = {"model": self.model, "input": value}
        answer = httpx.post(f"{self.stack.http_url}/v1/predictions", json=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["output"]

    def is_whole(self) -> bool:
        return len(self.ready()) == 2

    def listed(self) -> dict[str, Any]:
        listed: list[dict[str, Any]] = json.loads(self.stack.run("models", "--json").stdout)
        return next(each for each in listed if each["id"] == self.model)


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frail]:
    folder = tmp_path_factory.mktemp("frail")
    settings = {"HEADRACE_SCALER_LOST_S": "5", "HEADRACE_SCALER_RESTART_BACKOFF_S": "[0, 0.5]"}
    stack = Stack(folder, functions=[Frail.write(folder, 1)], settings=settings)
    try:
        stack.start()
        found = Frail(folder, stack)
        wait_until(found.is_whole, "two workers")
        yield found
    finally:
        for fault in (folder / "faults").iterdir():
            fault.unlink()
        stack.stop()


class Callers:
    """Somebody who asks all the time."""

    def __init__(self, frail: Frail) -> None:
        self.answers: list[Any] = []
        self.faults: list[str] = []
        self._frail = frail
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(3)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, caller: int) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            try:
                answer = self._frail.predict([caller, number])
                assert answer["input"] == [caller, number]
                self.answers.append(answer)
            except Exception as error:  # noqa: BLE001  # told by the test's own thread
                self.faults.append(repr(error))
            time.sleep(0.02)

    @property
    def versions(self) -> list[int]:
        """In the order of the answers, each once."""
        return sorted({answer["version"] for answer in self.answers})


def test_canaries_are_seen_by_nobody(frail: Frail) -> None:
    before = {name: worker["canary_at_s"] for name, worker in frail.ready().items()}

    def all_looked_again() -> bool:
        now = frail.ready()
        return all(now[name]["canary_at_s"] > at_s for name, at_s in before.items())

    wait_until(all_looked_again, "every worker's next canary")
    assert all(worker["completed"] == 0 for worker in frail.ready().values())
    lanes = [
        name for name in ("priority", "default", "flex") if frail.read(f"headrace.requests.frail.{name}")
    ]
    assert lanes == []
    jobs = httpx.get(f"{frail.stack.http_url}/v1/jobs").json()
    assert jobs["data"] == []
    assert frail.decisions()[-1].arrived == 0


def test_a_new_version_takes_over_without_a_request_lost_or_redone(frail: Frail) -> None:
    with Callers(frail) as callers:
        wait_until(lambda: len(callers.answers) > 20, "some answers")
        version = frail.deploy(2)
        wait_until(lambda: 2 in callers.versions, "answers of the new version")
        wait_until(
            lambda: {each["version"] for each in frail.ready().values()} == {version} and frail.is_whole(),
            "the old workers to go",
        )
    assert callers.faults == []
    assert callers.versions == [1, 2]
    attempts = [record.headers.get(h.ATTEMPT) for record in frail.read(_TOPICS.replies)]
    assert set(attempts) <= {None, b"1"}
    assert len(attempts) == len(callers.answers), "each was answered once"


def test_a_version_that_is_not_well_is_taken_out_again(frail: Frail) -> None:
    # Trusted is who has been well for a while.
    wait_until(lambda: b"trusted/frail" in [r.key for r in frail.read(_TOPICS.scaler)], "trust", 30)
    good = frail.listed()["version"]
    frail.break_("load3")
    with Callers(frail) as callers:
        bad = frail.deploy(3)
        assert bad != good
        wait_until(lambda: "rolled_back" in frail.listed(), "the way back")
        wait_until(frail.is_whole, "two workers")
    assert callers.faults == []
    assert set(callers.versions) == {2}
    now = frail.listed()
    assert now["version"] == good
    assert now["rolled_back"]["version"] == bad
    assert "2 workers in a row failed" in now["rolled_back"]["reason"]
    assert "the weights are broken" in now["rolled_back"]["reason"]
    told = frail.stack.run("models").stdout
    assert f"version {bad} was taken out" in told
    assert any("the weights are broken" in each.reason for each in frail.decisions())
    frail.mend("load3")


def test_a_worker_whose_canary_fails_is_replaced(frail: Frail) -> None:
    before = set(frail.ready())
    frail.break_("wrong")
    wait_until(lambda: not before & set(frail.ready()), "both to be taken out")
    wait_until(lambda: any("card fell off" in each.reason for each in frail.decisions()), "the reason")
    asked: list[Any] = []
    caller = threading.Thread(target=lambda: asked.append(frail.predict("while nobody is well")))
    caller.start()
    frail.mend("wrong")
    wait_until(frail.is_whole, "two workers")
    caller.join()
    assert [each["input"] for each in asked] == ["while nobody is well"]
    # It was well before: what fails now is around it, and no other version comes back.
    assert frail.listed()["rolled_back"]["version"] != frail.listed()["version"]


def test_a_canary_that_never_ends_is_a_fault(frail: Frail) -> None:
    before = set(frail.ready())
    frail.break_("hang")
    wait_until(lambda: not before & set(frail.ready()), "both to be taken out")
    frail.mend("hang")
    wait_until(frail.is_whole, "two workers")
    reasons = {each.reason for each in frail.decisions()}
    assert any("no answer within 2 s" in reason for reason in reasons), reasons


def test_a_start_that_hangs_is_ended(frail: Frail) -> None:
    frail.break_("start4")
    version = frail.deploy(4)
    wait_until(
        lambda: any("is not ready" in each.reason for each in frail.decisions() if each.version == version),
        "the end of the start",
    )
    assert frail.predict()["version"] == 2, "the old version serves"
    frail.mend("start4")
    wait_until(lambda: frail.predict()["version"] == 4 or "rolled_back" in frail.listed(), "an end of it")


def test_a_worker_that_is_declared_dead_ends(frail: Frail) -> None:
    wait_until(frail.is_whole, "two workers")
    victim = min(frail.ready().values(), key=lambda each: str(each["id"]))

    async def declare() -> None:
        producer = Producer(frail.kafka, source="test")
        await producer.start()
        try:
            event = Obituary(worker=victim["id"], group="headrace.frail", sent_at_s=time.time())
            key = f"obituary/{victim['id']}".encode()
            await (await producer.send(Outgoing(_TOPICS.control, event.encode(), key)))
        finally:
            await producer.stop()

    with Callers(frail) as callers:
        asyncio.run(declare())
        wait_until(lambda: victim["id"] not in frail.ready() and frail.is_whole(), "another in its place")
    assert callers.faults == []


def test_a_worker_that_is_not_heard_is_replaced(frail: Frail) -> None:
    wait_until(frail.is_whole, "two workers")
    victim = min(frail.ready().values(), key=lambda each: str(each["id"]))
    os.kill(victim["pid"], signal.SIGSTOP)
    with Callers(frail) as callers:
        wait_until(lambda: victim["id"] not in frail.ready() and frail.is_whole(), "another in its place", 60)
    assert callers.faults == []
    with pytest.raises(ProcessLookupError):
        os.kill(victim["pid"], 0)


def test_without_room_old_workers_go_first_one_by_one(frail: Frail) -> None:
    wait_until(frail.is_whole, "two workers")
    before = len(frail.decisions())
    answered = len(frail.read(_TOPICS.replies))
    most = 0

    def is_over() -> bool:
        nonlocal most
        most = max(most, frail.processes())
        return {each["version"] for each in frail.ready().values()} == {version} and frail.is_whole()

    with Callers(frail) as callers:
        wait_until(lambda: len(callers.answers) > 20, "some answers")
        version = frail.deploy(5, _MANIFEST.replace("max_workers: 2", "max_workers: 2, surge: 0"))
        wait_until(is_over, "the new version")
    assert callers.faults == []
    assert 5 in callers.versions
    assert most == 2
    seen = frail.decisions()[before:]
    assert max(each.warm + each.starting + each.draining for each in seen) == 2
    assert sum("makes room for version" in action for each in seen for action in each.actions) == 2
    assert any("surge: 1 wait until others have ended" in each.reason for each in seen)
    attempts = [record.headers.get(h.ATTEMPT) for record in frail.read(_TOPICS.replies)[answered:]]
    assert set(attempts) <= {None, b"1"}
    assert len(attempts) == len(callers.answers), "each was answered once"
