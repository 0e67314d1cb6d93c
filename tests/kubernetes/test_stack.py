"""A whole stack whose workers are pods: a real API server decides which go, real processes do the work."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Pod
from tests.elastic import HURRY, Elastic
from tests.kubernetes.control_plane import GPUS, ControlPlane
from tests.kubernetes.kubelet import PROCESSES, Kubelet, Run
from tests.stack import Stack, wait_until

from headrace.contracts.events import WorkerHeartbeat
from headrace.contracts.topics import Topics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# A request takes a second, four beside one another as long as one: a quarter of a worker's second.
_FUNCTION = """\
schema: headrace.function/v1
name: elastic
engine:
  kind: echo
  args: {{slots: 4, token_ms: 50, step_batching: false, output_tokens: 20, crash_on: poison, start_ms: {0}}}
scaling: {{min_workers: 0, max_workers: 4, idle_s: 2, drain_target_s: 6, work_s: 0.25}}
"""
_TOPICS = Topics()
_NAMESPACE = "stack"


class Site(Elastic):
    """With the node that its workers run on, and the cluster."""

    def __init__(self, stack: Stack, kubelet: Kubelet, plane: ControlPlane, folder: Path) -> None:
        super().__init__(stack)
        self.kubelet = kubelet
        self.plane = plane
        self.folder = folder

    def deploy(self, start_ms: int) -> None:
        """Another start time is another version."""
        (self.folder / "elastic").mkdir(exist_ok=True)
        (self.folder / "elastic" / "function.yaml").write_text(_FUNCTION.format(start_ms))
        done = self.stack.run("deploy", str(self.folder / "elastic"))
        assert done.returncode == 0, done.stderr

    def until_done(self, names: set[str], timeout_s: float = 90, *, again: int = 0) -> None:
        """Once each, but for so many that a dead worker had not committed."""
        super().until_done(names, timeout_s)
        assert self.repeats(names) <= again

    def until_none(self) -> None:
        wait_until(lambda: not self.kubelet.alive and not self.pods(), "no pod", 60)

    def pods(self) -> dict[str, Pod]:
        async def listed() -> dict[str, Pod]:
            async with self.plane.client() as client:
                return {pod.metadata.name: pod async for pod in client.list(Pod, namespace=_NAMESPACE)}

        return asyncio.run(listed())

    def beats(self) -> list[WorkerHeartbeat]:
        """The last word of each worker that lives."""
        found: dict[bytes, WorkerHeartbeat] = {}
        for record in self.read(_TOPICS.workers):
            key = record.key or b""
            found.pop(key, None)
            if record.value is not None and b'"kind":"worker"' in record.value:
                found[key] = WorkerHeartbeat.decode(record.value)
        return list(found.values())

    @property
    def scaler_log(self) -> str:
        return (self.stack.data_dir / "logs" / "scaler.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def site(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A stack whose one model has no worker, and whose scaler is in a hurry."""
    folder = tmp_path_factory.mktemp("stack")
    kubeconfig = asyncio.run(plane.furnish(_NAMESPACE))
    asyncio.run(plane.node("here", 8, PROCESSES))
    container = {
        "name": "worker",
        "image": "headrace:test",
        "command": [sys.executable, "-m", "headrace"],
        "envFrom": [{"configMapRef": {"name": "headrace"}}],
        "resources": {"limits": {GPUS: 1}},
        "terminationMessagePath": "/last-words",
    }
    (folder / "pod.yaml").write_text(
        yaml.safe_dump({"spec": {"nodeSelector": PROCESSES, "containers": [container]}})
    )
    settings = HURRY | {
        "HEADRACE_SCALER_ACTUATOR": "kubernetes",
        "HEADRACE_KUBERNETES_KUBECONFIG": str(kubeconfig),
        "HEADRACE_KUBERNETES_TEMPLATE": str(folder / "pod.yaml"),
    }
    stack = Stack(folder, functions=[], settings=settings)
    kubelet = Kubelet(plane, "here", folder)
    try:
        stack.start()
        kubelet.start()
        state = json.loads((stack.data_dir / "run" / "stack.json").read_text())
        asyncio.run(_configure(plane, state["environment"]))
        site = Site(stack, kubelet, plane, folder)
        site.deploy(500)
        yield site
    finally:
        stack.stop()
        kubelet.stop()


async def _configure(plane: ControlPlane, variables: dict[str, str]) -> None:
    async with plane.client() as client:
        await client.create(
            ConfigMap(metadata=ObjectMeta(name="headrace"), data=variables), namespace=_NAMESPACE
        )


def have_drained(runs: list[Run]) -> bool:
    """Whether none was cut short. One that is still loading has nothing to drain, and dies of SIGTERM."""
    return {run.exit_code for run in runs} <= {0, -signal.SIGTERM}


def test_from_none_and_back(site: Site) -> None:
    assert site.pods() == {}

    answer = site.ask()

    assert answer.json()["choices"]
    (name,) = site.pods()
    assert [(beat.model, beat.unit) for beat in site.beats()] == [("elastic", name)]
    site.until_none()
    assert have_drained(site.kubelet.runs)
    assert [each.target for each in site.decisions() if each.actions] == [1, 0]


def test_a_burst_grows_and_shrinks_and_nothing_is_lost_or_redone(site: Site) -> None:
    began, starts, decided = len(site.kubelet.runs), len(site.started()), len(site.decisions())

    site.until_done(site.submit(100))

    site.until_none()
    mine = site.kubelet.runs[began:]
    seen = site.decisions()[decided:]
    assert max(each.target for each in seen) == 4, "25 seconds of work in 6 are more than four can do"
    assert len(mine) == len(site.started()) - starts, "each pod was asked for, and none was restarted"
    assert have_drained(mine), "so that nothing was begun twice"
    stopped = [re.match(r"stop (\S+):", action) for each in seen for action in each.actions]
    assert sorted(match[1] for match in stopped if match) == sorted(run.pod for run in mine), "and was named"


def test_a_new_version_takes_over(site: Site) -> None:
    jobs = site.submit(60)
    wait_until(lambda: len(site.kubelet.alive) >= 2, "pods of the old version")
    (old,) = {version_of(pod) for pod in site.kubelet.alive}

    site.deploy(600)

    jobs |= site.submit(20)
    wait_until(lambda: {version_of(pod) for pod in site.kubelet.alive} - {old}, "a pod of the new version")
    site.until_done(jobs)
    site.until_none()
    assert have_drained(site.kubelet.runs)


def version_of(pod: str) -> str:
    return pod.split("-")[1]


def test_the_next_scaler_goes_on_with_the_same_pods(site: Site) -> None:
    began, starts = len(site.kubelet.runs), len(site.started())
    jobs = site.submit(80)
    wait_until(lambda: len(site.kubelet.alive) >= 2, "some pods")
    before = dict(site.kubelet.alive)

    os.kill(site.stack.pids["scaler"], signal.SIGKILL)

    epoch = site.decisions()[-1].epoch
    wait_until(lambda: site.decisions()[-1].epoch > epoch, "another scaler to decide", 30)
    assert before.items() <= site.kubelet.alive.items(), "they went on"
    site.until_done(jobs)
    site.until_none()
    mine = site.kubelet.runs[began:]
    assert len(mine) == len(site.started()) - starts, "none was started twice"
    assert len({run.pod for run in mine}) == len(mine) <= 4
    assert have_drained(mine)


def test_a_worker_that_is_killed_begins_anew_in_its_pod(site: Site) -> None:
    jobs = site.submit(40)
    wait_until(lambda: any(beat.running for beat in site.beats()), "a busy worker")
    busy = next(beat for beat in site.beats() if beat.running)
    assert busy.unit is not None

    os.kill(site.kubelet.alive[busy.unit], signal.SIGKILL)
    killed_s = time.monotonic()

    wait_until(
        lambda: f"obituary/{busy.id}".encode() in {e.key for e in site.read(_TOPICS.control)}, "its obituary"
    )
    assert time.monotonic() - killed_s < 8, "before Kafka's session ends"
    site.until_done(jobs, again=4)
    wait_until(lambda: [run.pod for run in site.kubelet.runs].count(busy.unit) == 2, "it to begin anew")
    assert "and begins anew in its pod" in site.scaler_log
    site.until_none()


def test_a_request_that_ends_worker_after_worker_is_found_out(site: Site) -> None:
    answer = site.post("poison")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "engine_crashed"
    letters = json.loads(site.stack.run("dead-letters", "list", "--json").stdout)
    assert [letter["code"] for letter in letters] == ["engine_crashed"]
    assert "was killed by signal 6" in site.scaler_log
    assert site.ask().json()["choices"], "others are answered"
