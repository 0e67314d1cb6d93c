"""One control plane for all tests, and a namespace for each."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from lightkube import AsyncClient
from tests.kubernetes.bench import Bench, bench, settings, template
from tests.kubernetes.control_plane import ControlPlane

from headrace.settings import Settings


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Kubernetes, with two nodes that kwok plays."""
    plane = ControlPlane(tmp_path_factory.mktemp("kubernetes"))
    try:
        plane.start()
        for name in ("node-1", "node-2"):
            asyncio.run(plane.node(name, 100))
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A name that no other test has."""
    return str(request.node.name).replace("_", "-")[:50].strip("-")


@pytest.fixture
def kubeconfig(plane: ControlPlane, namespace: str) -> Path:
    """Of the scaler's account, which has exactly the rights of infra/kubernetes/scaler-rbac.yaml."""
    return asyncio.run(plane.furnish(namespace))


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncIterator[AsyncClient]:
    """Who may do everything."""
    async with plane.client() as client:
        yield client


@pytest.fixture
def given(kubeconfig: Path, tmp_path: Path) -> Settings:
    """Pods with a GPU each, on kwok's nodes."""
    return settings(kubeconfig, template(tmp_path))


@pytest.fixture
async def one(given: Settings, client: AsyncClient, namespace: str) -> AsyncIterator[Bench]:
    """An actuator."""
    async with bench(given, client, namespace) as one:
        yield one
