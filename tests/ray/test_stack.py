"""The whole stack with its workers on Ray: from none and back, past the death of a scaler and of a node."""

import os
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.contract.actuators.conformance import processes
from tests.elastic import HURRY, MANIFEST, Elastic
from tests.ray.cluster import GPUS, Cluster
from tests.stack import Stack, wait_until

from headrace.contracts.events import WorkerHeartbeat
from headrace.contracts.topics import Topics

pytestmark = pytest.mark.timeout(300)

_MOST = 4
_BURST = 100


@pytest.fixture(scope="module")
def elastic(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    """With one model, which has no worker yet."""
    assert len(cluster.nodes) * GPUS == _MOST
    folder = tmp_path_factory.mktemp("elastic")
    (folder / "function.yaml").write_text(MANIFEST)
    settings = HURRY | {
        "HEADRACE_SCALER_ACTUATOR": "ray",
        "HEADRACE_RAY_ADDRESS": cluster.address,
        "HEADRACE_RAY_NAMESPACE": uuid.uuid4().hex,
    }
    stack = Stack(tmp_path_factory.mktemp("stack"), functions=[folder], settings=settings)
    try:
        stack.start()
        yield Elastic(stack)
    finally:
        stack.stop()


def beats(elastic: Elastic) -> dict[str, WorkerHeartbeat]:
    """The last word of every worker there has been."""
    found = {}
    for record in elastic.read(Topics().workers):
        if record.value is not None and b'"kind":"worker"' in record.value:
            beat = WorkerHeartbeat.decode(record.value)
            found[beat.id] = beat
    return found


def test_the_first_event_is_answered_by_a_worker_on_a_node(elastic: Elastic, cluster: Cluster) -> None:
    assert not elastic.workers()

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(elastic.ask)
        wait_until(lambda: len(elastic.started()) == 1, "a start")
        (name,) = elastic.started()
        wait_until(lambda: bool(processes(name)), "its worker")
        (worker,) = processes(name)
        assert cluster.node_of(worker) in cluster.nodes
        assert answer.result().json()["choices"]

    elastic.until_none()
    assert not processes(name)


def test_a_burst_survives_the_scaler_and_nothing_is_redone(elastic: Elastic) -> None:
    elastic.until_none()
    seen, before = len(elastic.decisions()), beats(elastic)

    names = elastic.submit(_BURST)
    wait_until(lambda: len(elastic.ready()) >= 2, "two workers")
    os.kill(elastic.stack.pids["scaler"], 9)
    elastic.until_done(names)
    elastic.until_none()

    assert len(elastic.leaders()) == 2
    since = elastic.decisions()[seen:]
    assert max(each.target for each in since) == _MOST, "50 seconds of work in 5 are more than four can do"
    assert max(each.warm + each.starting for each in since) == _MOST
    assert elastic.not_once(names) == {}, "answered once each"
    mine = {name: beat for name, beat in beats(elastic).items() if name not in before}
    assert len(mine) == _MOST, "each worker was started once"
    assert set(mine) <= set(elastic.started())
    assert sum(beat.completed for beat in mine.values()) == _BURST, "nothing was done twice"


def test_what_ran_on_a_lost_node_is_redone_by_others(elastic: Elastic, cluster: Cluster) -> None:
    elastic.until_none()
    names = elastic.submit(_BURST)
    wait_until(lambda: len(elastic.ready()) == _MOST, "all workers")
    by_node = defaultdict(set)
    for name in elastic.ready():
        by_node[cluster.node_of(processes(name)[0])].add(name)
    lost = by_node[cluster.nodes[1]]
    assert len(lost) == GPUS
    done = len(names & elastic.answers().keys())
    assert done < _BURST - GPUS * 4, "there is something to lose"

    cluster.kill(cluster.nodes[1])

    elastic.until_done(names)
    assert elastic.repeats(names) <= GPUS * 4
    assert not any(map(processes, lost)), "who is told dead works no more"
    assert lost.isdisjoint(elastic.ready())
    cluster.start()
    elastic.until_none()
