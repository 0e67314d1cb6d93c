"""The actuator `kubernetes` without the API server. A control plane of its own: it is slow to recover."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest
from tests.kubernetes.bench import Bench
from tests.kubernetes.control_plane import ControlPlane

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuators.kubernetes.cluster import PODS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("api"))
    try:
        plane.start()
        asyncio.run(plane.node("node-1", 100))
        yield plane
    finally:
        plane.stop()


async def test_an_api_server_that_dies_and_comes_back(plane: ControlPlane, one: Bench) -> None:
    await one.act(start=2)
    there = await one.until_running(2)

    plane.kill("kube-apiserver")

    assert sorted(one.units) == there, "for a moment what was known last holds"
    await one.until_known(is_so=False)
    with pytest.raises(Unavailable, match="Kubernetes cannot be reached to get deployments"):
        await one.act(start=1)
    await asyncio.to_thread(plane.start_api)
    await one.until_known()
    # It has forgotten what was before, so that a watch from there is refused: 410 Gone.
    async with aclosing(one.actuator._cluster.watch(PODS, 1)) as changes:
        with pytest.raises(Unavailable, match="does not watch pods: too old resource version"):
            await anext(changes)
    assert sorted(one.units) == there
    assert one.actuator.exits() == []
    await one.act(start=1)
    assert set(there) < set(await one.until_running(3))


async def test_a_write_that_fails_leaves_doubt(plane: ControlPlane, one: Bench) -> None:
    plane.kill("kube-apiserver")
    with pytest.raises(Unavailable, match="Kubernetes cannot be reached to create deployments"):
        await one.act(start=1)
    with pytest.raises(Unavailable, match="the deployments of the cluster are not known now"):
        _ = one.units
    await asyncio.to_thread(plane.start_api)
    await one.until_known()
