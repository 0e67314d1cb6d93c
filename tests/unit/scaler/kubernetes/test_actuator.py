"""What the actuator does where a real API server gives no such moment; the rest is in tests/kubernetes."""

import asyncio
import copy
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from lightkube.resources.apps_v1 import Deployment as RawDeployment

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Cause, Ending, NewUnit, Orders
from headrace.scaler.actuators.kubernetes import actuator, names, reading, standing
from headrace.scaler.actuators.kubernetes.actuator import Kubernetes
from headrace.scaler.actuators.kubernetes.cluster import PODS, Kind
from headrace.scaler.actuators.kubernetes.objects import Deployment, Pod, Termination
from headrace.settings import KubernetesSettings, Settings

NAME = names.deployment("chat", "1")


class Held:
    """In place of a cluster: keeps what it is given, and no controller does anything about it."""

    def __init__(self) -> None:
        self.raw: dict[str, RawDeployment] = {}
        self.revision = 100
        self.did: list[tuple[object, ...]] = []
        self.fails: set[str] = set()
        self.pods: dict[str, Pod] = {}

    def _do(self, *what: object) -> None:
        self.did.append(what)
        if what[0] in self.fails:
            raise Unavailable(f"no {what[0]}")

    def _keep(self, raw: RawDeployment) -> Deployment:
        self.revision += 1
        raw.metadata.resourceVersion = str(self.revision)
        self.raw[raw.metadata.name] = raw
        return reading.deployment(raw)

    async def list(self, kind: Kind) -> tuple[dict[str, object], int]:
        return self.pods if kind is PODS else {}, self.revision

    async def watch(self, *_: object) -> AsyncIterator[tuple[object, bool]]:
        await asyncio.Event().wait()
        yield

    async def close(self) -> None:
        return

    async def get(self, name: str) -> RawDeployment:
        return copy.deepcopy(self.raw[name])

    async def create(self, raw: RawDeployment) -> Deployment:
        return self._keep(raw)

    async def replace(self, raw: RawDeployment) -> Deployment:
        return self._keep(raw)

    async def scale(self, name: str, _: int, replicas: int) -> int:
        self._do("scale", replicas)
        self.raw[name].spec.replicas = replicas
        return self._keep(self.raw[name]).revision

    async def delete(self, raw: RawDeployment) -> None:
        self._do("delete", raw.metadata.name)

    async def value(self, pod: str, cost: int | None) -> None:
        self._do("value", pod, cost)

    async def kill(self, pod: str) -> None:
        self._do("kill", pod)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
async def acting(held: Held, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kubernetes]:
    monkeypatch.setattr(actuator, "Cluster", lambda _: held)
    acting = Kubernetes(Settings(kubernetes=KubernetesSettings(image="headrace:test")))
    await acting.start()
    yield acting
    await acting.stop()


def orders(*ends: str, start: int = 0, force: bool = False, epoch: int = 1, models=("chat",)) -> Orders:
    starts = [NewUnit("one", "chat", "1")] * start
    return Orders(epoch, starts, [Ending(name, force) for name in ends], dict.fromkeys(models, 1))


def pod(name: str, revision: int = 1, **changes: object) -> Pod:
    plain = Pod(name, f"uid-{name}", revision, NAME, "chat", "1", 100.0, "Running")
    return replace(plain, **{"is_assigned": True, "is_ready": True, "is_running": True} | changes)


def see(acting: Kubernetes, name: str, revision: int = 1, **changes: object) -> None:
    """The watch tells of a pod."""
    acting._pods.put(pod(name, revision, **changes))


async def two(acting: Kubernetes, held: Held) -> None:
    """Pods a and b."""
    await acting.act(orders(start=2))
    see(acting, "a")
    see(acting, "b")
    held.did.clear()


async def test_whoever_hangs_is_killed_until_that_is_done(acting, held):
    await two(acting, held)
    await acting.act(orders("a", force=True))
    see(acting, "a", 2, is_leaving=True)
    held.fails.add("kill")
    with pytest.raises(Unavailable):
        await acting.act(orders())
    held.fails.clear()
    held.did.clear()
    await acting.act(orders())
    await acting.act(orders())
    assert held.did == [("kill", "a")]


async def test_whoever_hung_and_stayed_is_not_killed_when_it_is_to_drain(acting, held):
    await two(acting, held)
    see(acting, "b", 2, is_ready=False)
    await acting.act(orders("a", force=True))
    # Kubernetes takes one that is not ready first.
    acting._pods._drop("b")
    assert not acting.units()["a"].stopping
    held.did.clear()
    await acting.act(orders())  # it is heard again
    await acting.act(orders("a"))
    see(acting, "a", 3, is_leaving=True)
    await acting.act(orders())
    assert ("kill", "a") not in held.did


async def test_one_that_hangs_and_is_to_be_followed_is_killed_by_name(acting, held):
    await two(acting, held)
    await acting.act(orders("a", start=1, force=True))
    # Controllers see the last scale, and need not have seen one that was lower for a moment.
    assert held.did == [("kill", "a")]
    assert held.raw[NAME].spec.replicas == 2
    held.did.clear()
    await acting.act(orders("a", "b", start=1, force=True))
    assert [each for each in held.did if each[0] != "value"] == [("kill", "a"), ("scale", 1)]


@pytest.mark.parametrize("start", [0, 1])
async def test_whoever_was_killed_has_left_something_behind(acting, held, start):
    await two(acting, held)
    await acting.act(orders("a", start=start, force=True))
    see(acting, "a", 2, is_leaving=True, cost=0 if start else -1)
    await acting.act(orders())
    acting._pods._drop("a")
    (ended,) = acting.exits()
    assert (ended.unit.id, ended.cause, ended.reason) == ("a", Cause.KILLED, "was killed")


async def test_an_end_that_was_seen_before_we_acted_is_told_when_we_do(acting, held):
    see(acting, "a")
    see(acting, "b")
    died = Termination("1", 139, "Error", "", 150.0)
    see(acting, "a", 2, ended=died)  # long ago
    see(acting, "b", 2, ended=replace(died, at_s=time.time() - 5.0))
    assert acting.exits() == []
    await acting.act(orders())
    assert [each.unit.id for each in acting.exits()] == ["b"]
    assert acting.exits() == []


async def test_an_older_epoch_marks_nobody(acting, held):
    await two(acting, held)
    held.raw[NAME].metadata.annotations[names.EPOCH] = "9"
    with pytest.raises(Unavailable, match="obeys a newer scaler"):
        await acting.act(orders("a", epoch=5))
    assert held.did == []


async def test_a_deployment_that_goes_meanwhile(acting, held):
    for version in ("1", "2"):
        await acting.act(Orders(1, [NewUnit("one", "chat", version)], targets={"chat": 1}))
        await acting.act(
            Orders(1, ends=[Ending(f"{names.deployment('chat', version)}/0")], targets={"chat": 1})
        )
    held.did.clear()
    held.get = _with_a_look(held.get, lambda: acting._deployments._drop(names.deployment("chat", "2")))
    await acting.act(orders(models=()))
    assert held.did == [("delete", NAME)]


async def test_a_list_is_looked_at_once(held, monkeypatch):
    held.pods = {name: pod(name) for name in map(str, range(100))}
    looks = []
    monkeypatch.setattr(actuator, "Cluster", lambda _: held)
    monkeypatch.setattr(actuator, "units", lambda *given: looks.append(1) or standing.units(*given))
    acting = Kubernetes(Settings(kubernetes=KubernetesSettings(image="headrace:test")))
    await acting.start()
    async with asyncio.timeout(5):
        await acting.changed.wait()
    assert len(looks) == 1
    assert len(acting.units()) == 100
    await acting.stop()


def _with_a_look(get, happens):
    async def instead(name: str) -> RawDeployment:
        happens()
        return await get(name)

    return instead
