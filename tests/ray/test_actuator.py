"""The `ray` actuator on a real cluster, by the suite, and what only Ray can show."""

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from tests.contract.actuators.conformance import (
    MODEL,
    VERSION,
    Handling,
    Make,
    Outliving,
    Told,
    processes,
    settings,
)
from tests.ray.cluster import GPUS, Cluster

from headrace.contracts.errors import SetupError, Unavailable
from headrace.scaler.actuator import Actuator, Cause, Ending, NewUnit, Orders
from headrace.scaler.actuators import catalog
from headrace.settings import load

__all__ = ["settings"]

pytestmark = pytest.mark.timeout(180)

OLD = """
import ray, sys
class Old:
    async def open(self):
        return "0.0.1"
    async def epoch(self):
        return 5
ray.init(address=sys.argv[1], namespace=sys.argv[2], log_to_driver=False)
old = ray.remote(Old).options(name="ledger", lifetime="detached", num_cpus=0).remote()
ray.get(old.open.remote())
print("there", flush=True)
sys.stdin.read()
"""
"""As scalers of another release would have left it."""

HOLDER = """
import ray, sys, time
class Holder:
    async def here(self):
        pass
ray.init(address=sys.argv[1], namespace=sys.argv[2], log_to_driver=False)
head = "node:__internal_head__"
holder = ray.remote(Holder).options(num_cpus=0, resources={head: ray.available_resources()[head]}).remote()
ray.get(holder.here.remote())
print("held", flush=True)
while "ledger" not in ray.util.list_named_actors():
    time.sleep(0.1)
print("ordered", flush=True)
sys.stdin.read()
"""
"""Leaves no place for a ledger, and tells when there is one that waits."""

SCALER = """
import asyncio
from headrace.scaler.actuators import catalog
from headrace.settings import load
asyncio.run(catalog.create(load()).start())
"""


@pytest.fixture
def make(settings, cluster: Cluster, monkeypatch) -> Make:
    """Each test has a ledger of its own."""
    monkeypatch.setenv("HEADRACE_SCALER_ACTUATOR", "ray")
    monkeypatch.setenv("HEADRACE_RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("HEADRACE_RAY_NAMESPACE", uuid.uuid4().hex)
    return lambda: catalog.create(load())


class TestBySuite(Outliving):
    pass


class TestRay(Handling):
    """What only Ray can show."""

    async def test_each_has_a_gpu_of_its_own_wherever_there_is_one(
        self, make: Make, cluster: Cluster
    ) -> None:
        async with self.started(make) as actuator:
            names = await self.order(actuator, GPUS * len(cluster.nodes))

            places = Counter()
            for (worker,) in map(processes, names):
                places[cluster.node_of(worker), worker.environ()["CUDA_VISIBLE_DEVICES"]] += 1
            gpus = [str(number) for number in range(GPUS)]
            assert places == Counter((ip, gpu) for ip in cluster.nodes for gpu in gpus)

    async def test_one_too_many_waits_and_says_for_what(self, make: Make, cluster: Cluster) -> None:
        async with self.started(make) as actuator:
            first, *_ = await self.order(actuator, GPUS * len(cluster.nodes))
            waiting, late = await self.order_in_vain(actuator, 2)
            assert notes(actuator)[waiting] == "waits for 1 GPU (0 of 4 free) and 1 CPU (0 of 4 free)"
            assert not any(notes(actuator)[name] for name in notes(actuator) if name not in {waiting, late})

            # Called off; it has never run.
            await actuator.act(Orders(1, ends=[Ending(late)]))
            (told,) = await Told(actuator).until(1)
            assert (told.unit.id, told.cause) == (late, Cause.ASKED)

            # The other one gets what becomes free.
            await actuator.act(Orders(1, ends=[Ending(first)]))
            await self.until(lambda: self.is_alive(waiting), "the one that waited")
            await self.until(lambda: not notes(actuator)[waiting], "its note to go")

    async def test_what_no_node_has_is_told(self, make: Make, monkeypatch) -> None:
        monkeypatch.setenv("HEADRACE_RAY_RESOURCES", '{"tape": 2}')
        async with self.started(make) as actuator:
            (name,) = await self.order_in_vain(actuator)
            assert notes(actuator)[name] == "no node of the Ray cluster has 1 GPU and 1 CPU and 2 tape"

    async def test_all_are_found_again_when_the_ledger_dies(self, make: Make, cluster: Cluster) -> None:
        async with self.started(make) as actuator:
            names = await self.order(actuator, GPUS * len(cluster.nodes), epoch=5)
            (waiting,) = await self.order_in_vain(actuator, epoch=5)
            await self.until(lambda: self.is_up(names[0]), "the worker to begin")

            # Those of other tests are still there.
            max(cluster.actors("Ledger"), key=psutil.Process.create_time).kill()
            await self.until(lambda: is_unknown(actuator), "its end to be seen")
            await self.until(lambda: not is_unknown(actuator), "another")

            assert set(actuator.units()) == {*names, waiting}
            assert actuator.exits() == []
            await actuator.act(Orders(5, ends=[Ending(names[0])]))
            (told,) = await Told(actuator).until(1)
            assert (told.unit.id, told.cause) == (names[0], Cause.ASKED)
            await self.until(lambda: self.is_alive(waiting), "the one that waited")

    async def test_workers_of_a_lost_node_are_told_dead_and_are(self, make: Make, cluster: Cluster) -> None:
        async with self.started(make) as actuator:
            names = await self.order(actuator, GPUS * len(cluster.nodes))
            lost = {name for name in names if cluster.node_of(processes(name)[0]) == cluster.nodes[0]}
            since_s = time.monotonic()

            cluster.kill(cluster.nodes[0])

            told = await Told(actuator).until(len(lost))
            print(f"told dead {time.monotonic() - since_s:.1f} s after its node", file=sys.stderr)
            assert {(each.unit.id, each.cause) for each in told} == {(name, Cause.KILLED) for name in lost}
            assert not any(map(self.is_alive, lost)), "a worker that is told dead works no more"
            assert set(actuator.units()) == set(names) - lost
            assert all(map(self.is_alive, actuator.units()))
        cluster.start()

    async def test_a_lost_cluster_is_not_known_and_another_is_found(
        self, make: Make, cluster: Cluster
    ) -> None:
        async with self.started(make) as actuator:
            (name,) = await self.order(actuator)

            cluster.stop()

            await self.until(lambda: is_unknown(actuator), "the loss to be seen")
            with pytest.raises(Unavailable):
                await actuator.act(Orders(1, ends=[Ending(name)]))
            assert not self.is_alive(name)
            cluster.start()
            await self.until(lambda: not is_unknown(actuator), "the other cluster")
            assert actuator.units() == {}
            (told,) = await Told(actuator).until(1)
            assert (told.unit.id, told.cause) == (name, Cause.KILLED)
            await self.order(actuator)

    async def test_a_ledger_of_another_release_gives_way_to_later_epochs_only(
        self, make: Make, cluster: Cluster
    ) -> None:
        with beside(cluster, OLD) as other:
            assert other.stdout.readline() == "there\n"
            (old,) = cluster.actors("Old")
            standby = make()
            await standby.start()
            assert "of headrace 0.0.1" in why_unknown(standby)
            async with self.started(make) as actuator:
                for epoch, why in ((4, "a later epoch (5, ours is 4)"), (5, "installed on the head?")):
                    await actuator.lead(epoch)
                    await self.until(lambda why=why: why in why_unknown(actuator), "a refusal")
                assert cluster.actors("Old") == [old], "scalers that do not lead, or no more, leave it alone"

                await actuator.lead(6)

                for each in (actuator, standby):
                    await self.until(lambda each=each: not is_unknown(each), "a ledger of ours")
                assert cluster.actors("Old") == []
                with pytest.raises(Unavailable, match=r"a later epoch \(6, ours is 5\)"):
                    await actuator.act(Orders(5))
                await self.order(actuator, epoch=6)
            await standby.stop()

    async def test_a_driver_that_waits_for_its_ledger_ends_with_the_scaler(
        self, make: Make, cluster: Cluster
    ) -> None:
        with beside(cluster, HOLDER) as holder:
            assert holder.stdout.readline() == "held\n"
            scaler = subprocess.Popen([sys.executable, "-c", SCALER], start_new_session=True)
            assert holder.stdout.readline() == "ordered\n"
            (driver,) = psutil.Process(scaler.pid).children()
            try:
                scaler.kill()
                scaler.wait()
                await self.until(lambda: not is_running(driver), "the end of the driver")
            finally:
                with contextlib.suppress(psutil.NoSuchProcess):
                    driver.kill()

    async def order_in_vain(self, actuator: Actuator, number: int = 1, epoch: int = 1) -> list[str]:
        """Workers for which there is no room; waits until it is said."""
        assert not any(notes(actuator).values())
        new = [NewUnit(f"w-{uuid.uuid4().hex[:12]}", MODEL, VERSION) for _ in range(number)]
        await actuator.act(Orders(epoch, new))
        names = [each.id for each in new]
        await self.until(lambda: all(notes(actuator)[name] for name in names), "a note")
        assert not any(map(self.is_alive, names))
        return names


def notes(actuator: Actuator) -> dict[str, str]:
    return {unit.id: unit.note for unit in actuator.units().values()}


def is_unknown(actuator: Actuator) -> bool:
    return bool(why_unknown(actuator))


def why_unknown(actuator: Actuator) -> str:
    try:
        actuator.units()
    except Unavailable as error:
        return str(error)
    return ""


def is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def beside(cluster: Cluster, code: str) -> "Iterator[subprocess.Popen[str]]":
    """A driver of Ray in the actuator's namespace that is none of ours."""
    command = [sys.executable, "-c", code, cluster.address, os.environ["HEADRACE_RAY_NAMESPACE"]]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_cluster_that_is_not_there_is_told_in_a_sentence(settings, monkeypatch) -> None:
    monkeypatch.setenv("HEADRACE_SCALER_ACTUATOR", "ray")
    monkeypatch.setenv("HEADRACE_RAY_ADDRESS", "127.0.0.2:1")
    with pytest.raises(SetupError, match=r"There is no Ray cluster at 127\.0\.0\.2:1") as error:
        await catalog.create(load()).start()
    assert "\n" not in str(error.value)


async def test_a_cluster_of_another_version_is_told_in_a_sentence(
    settings, cluster: Cluster, monkeypatch, tmp_path
) -> None:
    # The driver's Ray says that it is older than it is.
    (tmp_path / "sitecustomize.py").write_text("import ray\nray.__version__ = '2.59.0'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HEADRACE_SCALER_ACTUATOR", "ray")
    monkeypatch.setenv("HEADRACE_RAY_ADDRESS", cluster.address)
    with pytest.raises(SetupError, match=r"2\.59\.0") as error:
        await catalog.create(load()).start()
    assert "\n" not in str(error.value)
