"""Workers from none to many and back, on a whole stack; and who acts when there are two scalers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.elastic import HURRY, MANIFEST, Elastic
from tests.stack import Stack, wait_until

from headrace.contracts.topics import Topics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_BURST = 120

# Quick, and so patient that it gives its place only to others.
_QUICK = """\
schema: headrace.function/v1
name: NAME
engine: {kind: echo}
scaling: {min_workers: 0, max_workers: 1, idle_s: 600, gpus: 1}
"""
_LATE = """\
schema: headrace.function/v1
name: late
engine: {kind: python}
scaling: {min_workers: 0, max_workers: 2, idle_s: 1}
"""
# Where a file says so, the next start hangs for as long as that is there.
_LATE_HANDLER = """\
import time
from pathlib import Path

FAULTS = Path(FOLDER)


def load(context):
    if (FAULTS / "next").exists():
        (FAULTS / "next").rename(FAULTS / "now")
        while (FAULTS / "now").exists():
            time.sleep(0.05)


def predict(input, context):
    return input
"""


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    """A stack whose one model has no worker, and whose scaler is in a hurry."""
    folder = tmp_path_factory.mktemp("scaling")
    (folder / "elastic").mkdir()
    (folder / "elastic" / "function.yaml").write_text(MANIFEST)
    settings = HURRY | {"HEADRACE_SCALER_MAX_GPUS": "1"}
    stack = Stack(folder, functions=[folder / "elastic"], settings=settings)
    try:
        stack.start()
        yield Elastic(stack)
    finally:
        stack.stop()


class Predicting(Elastic):
    """One that takes what it is given."""

    def post(self, text: str = "hello", prefer: str = "wait=60") -> httpx.Response:
        url = f"{self.stack.http_url}/v1/predictions"
        body = {"model": self.model, "input": text}
        return httpx.post(url, json=body, headers={"prefer": prefer}, timeout=90)


def _deploy(elastic: Elastic, folder: Path, manifest: str) -> str:
    """Its version."""
    (folder / "function.yaml").write_text(manifest)
    done = elastic.stack.run("deploy", "--json", str(folder))
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["version"])


def test_from_none_and_back(elastic: Elastic) -> None:
    assert not elastic.workers()

    assert elastic.ask().json()["choices"]

    elastic.until_none()
    seen = elastic.decisions()
    assert [each.target for each in seen if each.actions] == [1, 0]
    up, down = (each for each in seen if each.actions)
    assert (up.waiting, up.warm, up.starting) == (1, 0, 0)
    assert "not known yet" in up.reason
    assert "idle for 2 s" in down.reason
    assert 0.4 < (down.work_s or 0) < 1.0
    assert down.cold_start_s > 0.5


def test_a_burst_grows_and_nothing_is_lost_or_redone(elastic: Elastic) -> None:
    elastic.until_none()
    before = len(elastic.decisions())

    names = elastic.submit(_BURST)
    elastic.until_done(names)
    elastic.until_none()

    seen = elastic.decisions()[before:]
    assert max(each.target for each in seen) == 4, "60 seconds of work in 5 are more than four can do"
    assert max(each.warm + each.starting for each in seen) == 4
    assert elastic.not_once(names) == {}, "answered once each"
    assert sorted(set(elastic.started())) == sorted(elastic.started()), "each worker was started once"
    assert [each.seq for each in seen] == sorted({each.seq for each in seen})
    assert seen[-1].arrived == 1 + _BURST, "all that came are known"


def test_the_past_is_decided_anew(elastic: Elastic) -> None:
    done = elastic.stack.run("scaler", "replay", "elastic", "--json", "--slots", "4", "--max-workers", "4")
    assert done.returncode == 0, done.stderr
    rows = {row["policy"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"headrace", "keda", "fixed", "oracle"}
    assert {row["served"] for row in rows.values()} == {1 + _BURST}
    nobody = elastic.stack.run("scaler", "replay", "nobody")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
    assert "nothing about a model 'nobody'" in nobody.stderr


def test_top_shows_the_latest_decision(elastic: Elastic) -> None:
    done = elastic.stack.run("top", "--once", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["model"], row["target"], row["waiting"]) == ("elastic", 0, 0)
    head, numbers, reason = elastic.stack.run("top", "--once").stdout.splitlines()
    assert head.split()[:3] == ["model", "waiting", "running"]
    assert numbers.split()[:3] == ["elastic", "0", "0"]
    assert reason.startswith("  ")


def test_a_new_version_is_tried_before_it_has_work(elastic: Elastic, tmp_path: Path) -> None:
    def is_trusted() -> bool:
        # Who was well for ten seconds: some worker of the burst was.
        return b"trusted/elastic" in [each.key for each in elastic.read(Topics().scaler)]

    assert is_trusted()
    elastic.until_none()
    before = len(elastic.decisions())
    good = _deploy(elastic, tmp_path, MANIFEST.replace("start_ms: 500", "start_ms: 400"))

    wait_until(lambda: any(each["version"] == good for each in elastic.workers().values()), "a worker to try")
    elastic.until_none()

    seen = elastic.decisions()[before:]
    assert max(each.target for each in seen) == 1
    assert {each.arrived for each in seen} == {1 + _BURST}, "nobody asked"
    tried = [each.reason for each in seen if each.version == good and each.target == 1]
    assert all(reason.startswith(f"version {good} is tried (") for reason in tried), tried

    slow = (
        MANIFEST.replace("start_ms: 500", "start_ms: 30000") + "health: {start_timeout_s: 3, failures: 1}\n"
    )
    bad = _deploy(elastic, tmp_path, slow)

    def listed() -> dict[str, Any]:
        rows: list[dict[str, Any]] = json.loads(elastic.stack.run("models", "--json").stdout)
        return next(each for each in rows if each["id"] == "elastic")

    wait_until(lambda: listed()["version"] == good, "the way back", 60)
    assert listed()["rolled_back"]["version"] == bad
    elastic.until_none()
    assert elastic.decisions()[-1].arrived == 1 + _BURST, "nobody asked"


def test_a_model_goes_when_its_work_is_done(elastic: Elastic) -> None:
    names = elastic.submit(20)

    done = elastic.stack.run("undeploy", "elastic")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["elastic takes no more requests", "elastic is gone"]
    assert names <= elastic.answers().keys(), "all were answered before"
    assert not elastic.workers()
    assert elastic.post().status_code == 404
    assert elastic.stack.run("backlog", "--json").stdout.strip() == "[]", "its topics are gone"
    again = elastic.stack.run("undeploy", "elastic")
    assert (again.returncode, again.stderr) == (
        1,
        "headrace: There is no model 'elastic'; `headrace models` lists what is deployed\n",
    )


def test_a_model_that_went_can_come_again(elastic: Elastic, tmp_path: Path) -> None:
    _deploy(elastic, tmp_path, MANIFEST)

    assert elastic.ask().json()["choices"], "from the first offset on"


def test_a_model_that_is_deployed_while_it_goes_stays(elastic: Elastic, tmp_path: Path) -> None:
    model = Elastic(elastic.stack, "brief")
    manifest = _QUICK.replace("NAME", model.model).replace("idle_s: 600, gpus: 1", "idle_s: 1")
    _deploy(model, tmp_path, manifest)
    assert model.stack.run("undeploy", "--no-wait", model.model).returncode == 0
    time.sleep(2.1)  # it goes after three seconds, and a deployment takes one or two
    done = model.stack.run("deploy", str(tmp_path))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: model.post().status_code == 200, "an answer", 30)


def test_models_take_turns_where_there_is_room_for_one_worker(elastic: Elastic, tmp_path: Path) -> None:
    models = [Elastic(elastic.stack, name) for name in ("one", "two", "three")]
    for model in models:
        folder = tmp_path / model.model
        folder.mkdir()
        _deploy(model, folder, _QUICK.replace("NAME", model.model))

    with ThreadPoolExecutor(len(models)) as pool:
        names = set().union(*pool.map(lambda model: model.submit(1), models))

    elastic.until_done(names)
    assert elastic.not_once(names) == {}
    seen = {model.model: model.decisions() for model in models}
    assert all(len(model.started()) == 1 for model in models)
    waited = [name for name, rows in seen.items() if any("GPU budget: 0 of 1" in row.reason for row in rows)]
    gave = [
        action
        for rows in seen.values()
        for row in rows
        for action in row.actions
        if "more than 0 workers: GPU budget: 0 of 1" in action
    ]
    assert len(waited) == 3, "two for the first, and the first ones for the last"
    assert len(gave) == 2, "nobody goes for one that has nothing to do"


def test_a_start_that_is_late_is_followed_by_another(elastic: Elastic, tmp_path: Path) -> None:
    model = Predicting(elastic.stack, "late")
    (tmp_path / "handler.py").write_text(_LATE_HANDLER.replace("FOLDER", repr(str(tmp_path))))
    _deploy(model, tmp_path, _LATE)
    before = model.submit(1)
    model.until_done(before)  # so that is known how long a start takes
    model.until_none()
    (tmp_path / "next").touch()

    names = model.submit(1)

    model.until_done(names)
    assert (tmp_path / "now").exists(), "the first one still starts"
    (tmp_path / "now").unlink()
    model.until_none()
    assert model.not_once(before | names) == {}
    assert len(model.started()) == 3
    assert any(row.reason.startswith("1 of those that start are late") for row in model.decisions())


def test_another_acts_when_the_actor_is_killed(elastic: Elastic, tmp_path: Path) -> None:
    elastic.until_none()
    state = json.loads((elastic.stack.data_dir / "run" / "stack.json").read_text())
    log = tmp_path / "second.log"
    with log.open("wb") as output:
        second = subprocess.Popen(
            [sys.executable, "-m", "headrace", "scaler"],
            env=os.environ | state["environment"],
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: "ready" in log.read_text(), "the second scaler")

        def is_taught() -> bool:
            # Requests come one at a time, with nothing between them for longer than is planned ahead.
            elastic.ask()
            elastic.until_none()
            return bool(elastic.learned().spells_s)

        # It stands by: the first one goes on acting.
        wait_until(is_taught, "something that is learned", 60)
        assert len(elastic.leaders()) == 1
        count = len(elastic.started())
        taught, killed_at_s = elastic.learned(), time.time()

        killed_s = time.monotonic()
        os.kill(elastic.stack.pids["scaler"], 9)
        wait_until(lambda: len(elastic.leaders()) == 2, "another to act", 15)
        took_s = time.monotonic() - killed_s
        # The one that stood by, or the one that the supervisor has started in its place.
        assert elastic.leaders()[-1] != elastic.stack.pids["scaler"]
        assert took_s < 12, "the session is 6 s"
        wait_until(lambda: elastic.learned().at_s > killed_at_s, "what the next one knows", 30)
        known = elastic.learned()
        assert known.spells_s[: len(taught.spells_s)] == taught.spells_s
        assert known.pauses_s[: len(taught.pauses_s)] == taught.pauses_s
        elastic.ask()

        assert len(elastic.started()) == count + 1
        last = elastic.decisions()[-1]
        assert last.epoch > elastic.decisions()[0].epoch
        elastic.until_none()
    finally:
        second.terminate()
        second.wait(timeout=60)
    # Whoever acts when that one has gone.
    elastic.ask()
    assert len(elastic.started()) == len(set(elastic.started()))
