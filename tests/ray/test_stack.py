"""The whole stack with its workers on Ray: from none and back, past the death of a scaler and of a node."""

import os
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.contract.actuators.conformance import processes
from tests.e2e.test_scaling import (
    ask,
    decisions,
    ended,
    has_none,
    leaders,
    read,
    results,
    started,
    workers,
)
from tests.ray.cluster import GPUS, Cluster
from tests.stack import Stack, wait_until

from headrace.contracts.events import WorkerHeartbeat
from headrace.contracts.topics import Topics

pytestmark = pytest.mark.timeout(300)

# A request takes two seconds, four beside one another as long as one: half a second of a worker.
_ELASTIC = """\
schema: headrace.function/v1
name: elastic
engine:
  kind: echo
  args: {slots: 4, token_ms: 100, step_batching: false, output_tokens: 20, start_ms: 500}
scaling: {min_workers: 0, max_workers: 4, idle_s: 2, drain_target_s: 5}
"""
_MOST = 4
_BURST = 100


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With one model, which has no worker yet."""
    assert len(cluster.nodes) * GPUS == _MOST
    folder = tmp_path_factory.mktemp("elastic")
    (folder / "function.yaml").write_text(_ELASTIC)
    settings = {
        "HEADRACE_SCALER_ACTUATOR": "ray",
        "HEADRACE_RAY_ADDRESS": cluster.address,
        "HEADRACE_RAY_NAMESPACE": uuid.uuid4().hex,
        "HEADRACE_SCALER_UP_STEP_S": "2",
        "HEADRACE_SCALER_DOWN_WINDOW_S": "2",
        "HEADRACE_SCALER_DOWN_STEP_S": "1",
    }
    stack = Stack(tmp_path_factory.mktemp("stack"), functions=[folder], settings=settings)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def submit(stack: Stack, number: int) -> set[str]:
    """So many jobs at once; their ids."""
    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda _: ask(stack, "respond-async").json()["id"], range(number)))


def beats(stack: Stack) -> dict[str, WorkerHeartbeat]:
    """The last word of every worker there has been."""
    found = {}
    for record in read(stack, Topics().workers):
        if record.value is not None and b'"kind":"worker"' in record.value:
            beat = WorkerHeartbeat.decode(record.value)
            found[beat.id] = beat
    return found


def ready(stack: Stack) -> list[str]:
    return [each["id"] for each in stack.status()["workers"] if each["state"] == "ready"]


def test_the_first_event_is_answered_by_a_worker_on_a_node(stack: Stack, cluster: Cluster) -> None:
    assert workers(stack) == 0

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, stack)
        wait_until(lambda: len(started(stack)) == 1, "a start")
        (name,) = started(stack)
        wait_until(lambda: bool(processes(name)), "its worker")
        (worker,) = processes(name)
        assert cluster.node_of(worker) in cluster.nodes
        assert answer.result().json()["choices"]

    has_none(stack)
    assert not processes(name)


def test_a_burst_survives_the_scaler_and_nothing_is_redone(stack: Stack) -> None:
    has_none(stack)
    seen, before = len(decisions(stack)), beats(stack)

    names = submit(stack, _BURST)
    wait_until(lambda: len(ready(stack)) >= 2, "two workers")
    os.kill(stack.pids["scaler"], 9)
    wait_until(lambda: len(ended(stack) & names) == _BURST, "all jobs to end")
    has_none(stack)

    assert len(leaders(stack)) == 2
    since = decisions(stack)[seen:]
    assert max(each.target for each in since) == _MOST, "50 seconds of work in 5 are more than four can do"
    assert max(each.warm + each.starting for each in since) == _MOST
    told = Counter(results(stack))
    assert {name: told[name] for name in names} == dict.fromkeys(names, 1), "answered once each"
    mine = {name: beat for name, beat in beats(stack).items() if name not in before}
    assert len(mine) == _MOST, "each worker was started once"
    assert set(mine) <= set(started(stack))
    assert sum(beat.completed for beat in mine.values()) == _BURST, "nothing was done twice"


def test_what_ran_on_a_lost_node_is_redone_by_others(stack: Stack, cluster: Cluster) -> None:
    has_none(stack)
    names = submit(stack, _BURST)
    wait_until(lambda: len(ready(stack)) == _MOST, "all workers")
    by_node = defaultdict(set)
    for name in ready(stack):
        by_node[cluster.node_of(processes(name)[0])].add(name)
    lost = by_node[cluster.nodes[1]]
    assert len(lost) == GPUS
    done = len(ended(stack) & names)
    assert done < _BURST - GPUS * 4, "there is something to lose"

    cluster.kill(cluster.nodes[1])

    wait_until(lambda: len(ended(stack) & names) == _BURST, "all jobs to end")
    told = Counter(results(stack))
    assert {name: told[name] for name in names} == dict.fromkeys(names, 1), "answered once each"
    assert not any(map(processes, lost)), "who is told dead works no more"
    assert lost.isdisjoint(ready(stack))
    cluster.start()
    has_none(stack)
