"""Workers from none to many and back, where KEDA starts and ends them.

KEDA, its HPA and the kubelet are played here, by KEDA's own protocol and by the HPA's rule; workers are real.
"""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.elastic import Elastic
from tests.keda import Protocol, compiled
from tests.stack import Stack, wait_until

from headrace.contracts.events import Obituary
from headrace.contracts.topics import Topics
from headrace.core.ports import Record
from headrace.devstack.ports import HOST, free

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# A request takes a second, four beside one another as long as one: a quarter of a second of a worker.
_ELASTIC = """\
schema: headrace.function/v1
name: elastic
engine:
  kind: echo
  args: {slots: 4, token_ms: 50, step_batching: false, output_tokens: 20, start_ms: START_MS}
scaling: {min_workers: 0, max_workers: 4, idle_s: 2, drain_target_s: 3}
"""
_BURST = 48


class Played:
    """KEDA with its HPA, and a kubelet whose pods are worker processes of this machine.

    Its clocks are faster: it polls every half second, where the HPA looks every 15 s.
    """

    def __init__(self, port: int, protocol: Protocol, environment: dict[str, str], log: Path) -> None:
        self._messages = protocol.messages
        self.environment = environment
        self._log = log
        self._channel = grpc.insecure_channel(f"{HOST}:{port}")
        self._client: Any = protocol.stubs.ExternalScalerStub(self._channel)
        self._me = self._messages.ScaledObjectRef(scalerMetadata={"model": "elastic"})
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._pods: dict[str, subprocess.Popen[bytes]] = {}
        self._ending: list[subprocess.Popen[bytes]] = []
        self._stream: Any = None
        self._threads = [threading.Thread(target=run) for run in (self._listen, self._poll)]
        self.replicas = 0
        self.most = 0
        self.pushed_at_s: list[float] = []
        self.codes: list[int] = []
        """Exit codes of workers."""

    @property
    def log(self) -> str:
        """What workers have said."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._stream is not None:
            self._stream.cancel()
        for thread in self._threads:
            thread.join()
        self._channel.close()
        with self._lock:
            self._scale(0)
        for process in self._ending:
            process.wait(timeout=60)

    def kill_one(self) -> None:
        """SIGKILL to a worker; its pod starts another."""
        with self._lock:
            next(iter(self._pods.values())).kill()

    def _listen(self) -> None:
        """What is pushed. False is ignored; a stream that ends begins again."""
        while not self._over.wait(0.1):
            self._stream = self._client.StreamIsActive(self._me)
            try:
                for each in self._stream:
                    if each.result:
                        self.pushed_at_s.append(time.time())
                        with self._lock:
                            self._scale(max(1, self.replicas))
            except grpc.RpcError:
                continue

    def _poll(self) -> None:
        """What is asked: first the number, then whether there is to be any; an error changes nothing."""
        while not self._over.wait(0.5):
            with self._lock:
                self._restart()
            try:
                asked = self._messages.GetMetricsRequest(scaledObjectRef=self._me)
                (value,) = self._client.GetMetrics(asked, timeout=5).metricValues
                is_active = self._client.IsActive(self._me, timeout=5).result
                (spec,) = self._client.GetMetricSpec(self._me, timeout=5).metricSpecs
            except grpc.RpcError:
                continue
            with self._lock:
                if not is_active:
                    self._scale(0)
                elif self.replicas == 0:
                    self._scale(1)
                else:
                    self._scale(self._desired(value.metricValueFloat / spec.targetSizeFloat))

    def _desired(self, number: float) -> int:
        """The HPA's rule, with its tolerance."""
        return self.replicas if abs(number / self.replicas - 1) <= 0.1 else max(1, math.ceil(number))

    def _scale(self, replicas: int) -> None:
        self.replicas = replicas
        self.most = max(self.most, replicas)
        while len(self._pods) > replicas:
            _, process = self._pods.popitem()
            process.terminate()
            self._ending.append(process)
        for number in range(replicas):
            if f"elastic-{number}" not in self._pods:
                self._pods[f"elastic-{number}"] = self._worker(f"elastic-{number}")

    def _restart(self) -> None:
        """A container that has ended starts again in its pod."""
        self.codes += [process.returncode for process in self._ending if process.poll() is not None]
        self._ending = [process for process in self._ending if process.returncode is None]
        for name, process in self._pods.items():
            if process.poll() is not None:
                self.codes.append(process.returncode)
                self._pods[name] = self._worker(name)

    def _worker(self, pod: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "headrace", "worker", "--model", "elastic", "--unit", pod]
        with self._log.open("ab") as output:
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)


@pytest.fixture(scope="module")
def port() -> int:
    return free(1)[0]


@pytest.fixture(scope="module")
def elastic(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    """A stack whose one model has no worker, and whose scaler starts none itself."""
    folder = tmp_path_factory.mktemp("keda")
    write(folder / "elastic", start_ms=500)
    settings = {
        "HEADRACE_SCALER_ACTUATOR": "keda",
        "HEADRACE_KEDA_PORT": str(port),
        "HEADRACE_SCALER_UP_STEP_S": "2",
        "HEADRACE_SCALER_DOWN_WINDOW_S": "2",
        "HEADRACE_SCALER_DOWN_STEP_S": "1",
    }
    stack = Stack(folder, functions=[folder / "elastic"], settings=settings)
    try:
        stack.start()
        yield Elastic(stack)
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def keda(elastic: Elastic, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("played")
    state = json.loads((elastic.stack.data_dir / "run" / "stack.json").read_text())
    environment = os.environ | state["environment"]
    played = Played(port, compiled(folder), environment, folder / "workers.log")
    played.start()
    try:
        yield played
    finally:
        played.stop()


def write(folder: Path, start_ms: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "function.yaml").write_text(_ELASTIC.replace("START_MS", str(start_ms)))
    return folder


def goes_to_none(elastic: Elastic, keda: Played) -> None:
    wait_until(lambda: keda.replicas == 0 and not elastic.workers(), "no worker", 60)


def test_from_none_and_back(elastic: Elastic, keda: Played) -> None:
    wait_until(lambda: bool(elastic.decisions()), "the first decision")
    assert (keda.replicas, keda.pushed_at_s) == (0, [])
    asked_at_s = time.time()

    assert elastic.ask().json()["choices"]

    assert len(keda.pushed_at_s) == 1
    assert keda.pushed_at_s[0] - asked_at_s < 1.0, "asked twice a second, and pushed at once"
    goes_to_none(elastic, keda)
    wait_until(lambda: keda.codes == [0], "its worker to end well")
    seen = [each for each in elastic.decisions() if each.actions]
    assert [each.target for each in seen] == [1, 0]
    assert keda.most == 1


def test_a_burst_grows_and_nothing_is_lost_or_redone(elastic: Elastic, keda: Played) -> None:
    before = len(elastic.decisions())

    names = elastic.submit(_BURST)
    elastic.until_done(names)
    goes_to_none(elastic, keda)

    seen = elastic.decisions()[before:]
    # How many are right depends on how long a start takes on this machine.
    most = max(each.target for each in seen)
    assert 2 <= most <= 4
    assert max(each.warm + each.starting for each in seen) == most, "none is counted twice while it loads"
    assert keda.most == most
    assert elastic.not_once(names) == {}, "answered once each"
    assert set(keda.codes) <= {0, -signal.SIGTERM}, "each drained, unless it was still loading"


def obituaries(elastic: Elastic) -> list[Record]:
    return [each for each in elastic.read(Topics().control) if (each.key or b"").startswith(b"obituary/")]


def test_a_worker_that_is_killed_is_buried_when_its_pod_starts_another(
    elastic: Elastic, keda: Played
) -> None:
    names = elastic.submit(12)
    wait_until(lambda: any(w["in_flight"] for w in elastic.workers().values()), "work")

    keda.kill_one()

    elastic.until_done(names, 60)
    wait_until(lambda: bool(obituaries(elastic)), "its obituary", 60)
    dead = obituaries(elastic)
    assert [Obituary.decode(record.value or b"").blamed for record in dead] == [()]
    assert -signal.SIGKILL in keda.codes
    assert elastic.repeats(names) <= 4


def test_a_worker_of_a_model_that_is_not_there_says_so(keda: Played) -> None:
    command = [sys.executable, "-m", "headrace", "worker", "--model", "nobody"]
    done = subprocess.run(
        command, env=keda.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith("headrace worker: There is no model 'nobody': deploy it first\n")


def test_workers_follow_what_is_deployed(elastic: Elastic, keda: Played, tmp_path: Path) -> None:
    elastic.ask()
    (old,) = {each["version"] for each in elastic.workers().values()}
    names = elastic.submit(24)

    deployed = elastic.stack.run("deploy", str(write(tmp_path / "elastic", start_ms=400)))

    assert deployed.returncode == 0, deployed.stderr
    elastic.until_done(names, 60)
    elastic.ask()
    assert old not in {each["version"] for each in elastic.workers().values()}
    assert "is deployed: this worker ends" in keda.log
    assert elastic.not_once(names) == {}
    # One that still loads its modules has nothing to drain: SIGTERM ends it.
    assert keda.codes.count(-signal.SIGKILL) == 1
    assert set(keda.codes) <= {0, -signal.SIGTERM, -signal.SIGKILL}, "all but one drained"


def test_an_undeployed_model_goes(elastic: Elastic, keda: Played) -> None:
    names = elastic.submit(1)

    done = elastic.stack.run("undeploy", "elastic")

    assert done.returncode == 0, done.stderr
    assert names <= elastic.answers().keys()
    assert keda.replicas == 0
