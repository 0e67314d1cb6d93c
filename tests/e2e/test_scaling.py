"""Workers from none to many and back, on a whole stack; and who acts when there are two scalers."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import httpx
import pytest
from tests.stack import Stack, wait_until

from headrace.contracts import headers as h
from headrace.contracts.decisions import Decision, Leader
from headrace.contracts.topics import Topics
from headrace.core.ports import Record
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# A request takes two seconds, four beside one another as long as one: half a second of a worker.
_ELASTIC = """\
schema: headrace.function/v1
name: elastic
engine:
  kind: echo
  args: {slots: 4, token_ms: 100, step_batching: false, output_tokens: 20, start_ms: 500}
scaling: {min_workers: 0, max_workers: 4, idle_s: 2, drain_target_s: 5}
"""
_BURST = 120
_TOPICS = Topics()


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose one model has no worker, and whose scaler is in a hurry."""
    folder = tmp_path_factory.mktemp("scaling")
    (folder / "elastic").mkdir()
    (folder / "elastic" / "function.yaml").write_text(_ELASTIC)
    hurry = {
        "HEADRACE_SCALER_UP_STEP_S": "2",
        "HEADRACE_SCALER_DOWN_WINDOW_S": "2",
        "HEADRACE_SCALER_DOWN_STEP_S": "1",
    }
    stack = Stack(folder, functions=[folder / "elastic"], settings=hurry)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def ask(stack: Stack, prefer: str = "wait=60") -> httpx.Response:
    body = {"model": "elastic", "messages": [{"role": "user", "content": "hello"}]}
    url = f"{stack.http_url}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers={"prefer": prefer}, timeout=90)
    answer.raise_for_status()
    return answer


def workers(stack: Stack) -> int:
    return len(stack.status()["workers"])


def has_none(stack: Stack) -> None:
    wait_until(lambda: workers(stack) == 0, "no worker", 60)


def read(stack: Stack, topic: str) -> list[Record]:
    async def all_of_it() -> list[Record]:
        settings = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
        async with PartitionReader(settings, {topic: None}) as reader:
            return list(await reader.read_to_end())

    return asyncio.run(all_of_it())


def decisions(stack: Stack) -> list[Decision]:
    return [Decision.decode(record.value or b"") for record in read(stack, _TOPICS.decisions)]


def started(stack: Stack) -> list[str]:
    """Ids of the workers that were started, as the decisions say."""
    actions = [action for each in decisions(stack) for action in each.actions]
    return [action.split()[1].rstrip(":") for action in actions if action.startswith("start ")]


def leaders(stack: Stack) -> list[int]:
    """Process ids of those that acted, one after the other."""
    words = [
        Leader.decode(each.value or b"") for each in read(stack, _TOPICS.scaler) if each.key == b"leader"
    ]
    return [pid for pid, _ in groupby(word.pid for word in words)]


def test_from_none_and_back(elastic: Stack) -> None:
    assert workers(elastic) == 0

    assert ask(elastic).json()["choices"]

    has_none(elastic)
    seen = decisions(elastic)
    assert [each.target for each in seen if each.actions] == [1, 0]
    up, down = (each for each in seen if each.actions)
    assert (up.waiting, up.warm, up.starting) == (1, 0, 0)
    assert "not known yet" in up.reason
    assert "idle for 2 s" in down.reason
    assert 0.4 < (down.work_s or 0) < 1.0
    assert down.cold_start_s > 0.5


def test_a_burst_grows_and_nothing_is_lost_or_redone(elastic: Stack) -> None:
    has_none(elastic)
    before = len(decisions(elastic))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(elastic, "respond-async"), range(_BURST)))
    names = {answer.json()["id"] for answer in answers}
    assert len(names) == _BURST
    wait_until(lambda: len(ended(elastic) & names) == _BURST, "all jobs to end", 120)
    has_none(elastic)

    seen = decisions(elastic)[before:]
    assert max(each.target for each in seen) == 4, "60 seconds of work in 5 are more than four can do"
    assert max(each.warm + each.starting for each in seen) == 4
    told = Counter(results(elastic))
    assert {name: told[name] for name in names} == dict.fromkeys(names, 1), "answered once each"
    assert sorted(set(started(elastic))) == sorted(started(elastic)), "each worker was started once"
    assert [each.seq for each in seen] == sorted({each.seq for each in seen})
    assert seen[-1].arrived == 1 + _BURST, "all that came are known"


def test_the_past_is_decided_anew(elastic: Stack) -> None:
    done = elastic.run("scaler", "replay", "elastic", "--json", "--slots", "4", "--max-workers", "4")
    assert done.returncode == 0, done.stderr
    rows = {row["policy"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"headrace", "keda", "fixed", "oracle"}
    assert {row["served"] for row in rows.values()} == {1 + _BURST}
    nobody = elastic.run("scaler", "replay", "nobody")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
    assert "nothing about a model 'nobody'" in nobody.stderr


def test_top_shows_the_latest_decision(elastic: Stack) -> None:
    done = elastic.run("top", "--once", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["model"], row["target"], row["waiting"]) == ("elastic", 0, 0)
    head, numbers, reason = elastic.run("top", "--once").stdout.splitlines()
    assert head.split()[:3] == ["model", "waiting", "running"]
    assert numbers.split()[:3] == ["elastic", "0", "0"]
    assert reason.startswith("  ")


def test_a_model_goes_when_its_work_is_done(elastic: Stack) -> None:
    names = {ask(elastic, "respond-async").json()["id"] for _ in range(20)}

    done = elastic.run("undeploy", "elastic")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["elastic takes no more requests", "elastic is gone"]
    assert names <= ended(elastic), "all were answered before"
    assert workers(elastic) == 0
    url = f"{elastic.http_url}/v1/chat/completions"
    body = {"model": "elastic", "messages": [{"role": "user", "content": "hello"}]}
    assert httpx.post(url, json=body).status_code == 404
    assert elastic.run("backlog", "--json").stdout.strip() == "[]", "its topics are gone"
    again = elastic.run("undeploy", "elastic")
    assert (again.returncode, again.stderr) == (
        1,
        "headrace: There is no model 'elastic'; `headrace models` lists what is deployed\n",
    )


def test_a_model_that_went_can_come_again(elastic: Stack, tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text(_ELASTIC)
    deployed = elastic.run("deploy", str(tmp_path))
    assert deployed.returncode == 0, deployed.stderr

    assert ask(elastic).json()["choices"], "from the first offset on"


def results(stack: Stack) -> list[str]:
    records = read(stack, _TOPICS.results)
    return [record.headers[h.CAUSATION_ID].decode() for record in records]


def ended(stack: Stack) -> set[str]:
    return set(results(stack))


def test_another_acts_when_the_actor_is_killed(elastic: Stack, tmp_path: Path) -> None:
    has_none(elastic)
    state = json.loads((elastic.data_dir / "run" / "stack.json").read_text())
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
        # It stands by: the first one goes on acting.
        ask(elastic)
        assert len(leaders(elastic)) == 1
        has_none(elastic)
        count = len(started(elastic))

        killed_s = time.monotonic()
        os.kill(elastic.pids["scaler"], 9)
        wait_until(lambda: len(leaders(elastic)) == 2, "another to act", 15)
        took_s = time.monotonic() - killed_s
        # The one that stood by, or the one that the supervisor has started in its place.
        assert leaders(elastic)[-1] != elastic.pids["scaler"]
        assert took_s < 12, "the session is 6 s"
        ask(elastic)

        assert len(started(elastic)) == count + 1
        last = decisions(elastic)[-1]
        assert last.epoch > decisions(elastic)[0].epoch
        has_none(elastic)
    finally:
        second.terminate()
        second.wait(timeout=60)
    # Whoever acts when that one has gone.
    ask(elastic)
    assert len(started(elastic)) == len(set(started(elastic)))
