"""An actuator on a real API server, and what a test asks of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from lightkube import AsyncClient
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod
from tests.kubernetes.control_plane import FAKE, GPUS

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Ending, Exit, NewUnit, Orders, Unit
from headrace.scaler.actuators.kubernetes.actuator import Kubernetes
from headrace.settings import KubernetesSettings, Settings

MODEL: Final = "acme/Chat-1.5"
VERSION: Final = "0123456789ab"
_PATIENCE_S: Final = 30.0


class Bench:
    """An actuator, with all that it has told of."""

    def __init__(self, actuator: Kubernetes, client: AsyncClient, namespace: str) -> None:
        self.actuator = actuator
        self.client = client
        self.namespace = namespace
        self.exits: list[Exit] = []

    async def act(
        self,
        *,
        start: int = 0,
        stop: Iterable[str] = (),
        force: bool = False,
        epoch: int = 1,
        version: str = VERSION,
        targets: Iterable[str] = (MODEL,),
    ) -> None:
        """One decision."""
        starts = [NewUnit("one", MODEL, version)] * start
        ends = [Ending(unit_id, force) for unit_id in stop]
        await self.actuator.act(Orders(epoch, starts, ends, dict.fromkeys(targets, 1)))

    @property
    def units(self) -> dict[str, Unit]:
        return dict(self.actuator.units())

    @property
    def staying(self) -> set[str]:
        return {unit.id for unit in self.units.values() if not unit.stopping}

    async def until(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait until it is so."""
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            self.exits += self.actuator.exits()
            if is_so():
                return
            assert time.monotonic() < until_s, f"waited for {what}; there are {self.units}"
            await asyncio.sleep(0.05)

    @property
    def is_known(self) -> bool:
        """Whether anything can be decided."""
        try:
            self.actuator.units()
        except Unavailable:
            return False
        return True

    async def until_known(self, *, is_so: bool = True) -> None:
        """Wait until it is known what there is, or is not."""
        async with asyncio.timeout(_PATIENCE_S):
            while self.is_known != is_so:
                await asyncio.sleep(0.05)

    async def until_running(self, number: int) -> list[str]:
        """So many pods run, and nothing else is there; their names."""
        await self.until(lambda: len(self.units) == number and not self._unready(), f"{number} pods")
        return sorted(self.units)

    def _unready(self) -> list[str]:
        pods = self.actuator._pods.found
        return [name for name in self.units if name not in pods or not pods[name].is_ready]

    async def pods(self) -> dict[str, Pod]:
        """As Kubernetes has them."""
        listed = self.client.list(Pod, namespace=self.namespace)
        return {pod.metadata.name: pod async for pod in listed}

    async def deployments(self) -> dict[str, Deployment]:
        """As Kubernetes has them."""
        listed = self.client.list(Deployment, namespace=self.namespace)
        return {each.metadata.name: each async for each in listed}


def settings(kubeconfig: Path, template: Path) -> Settings:
    return Settings(kubernetes=KubernetesSettings(kubeconfig=kubeconfig, template=template))


def template(folder: Path, gpus: int = 1, **spec: Any) -> Path:
    """A pod template on kwok's nodes, with GPUs."""
    container = {"name": "worker", "image": "headrace:test", "resources": {"limits": {GPUS: gpus}}}
    document = {"spec": {"nodeSelector": FAKE, "containers": [container], **spec}}
    path = folder / "template.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@asynccontextmanager
async def bench(given: Settings, client: AsyncClient, namespace: str) -> AsyncIterator[Bench]:
    """A started actuator."""
    actuator = Kubernetes(given)
    await actuator.start()
    try:
        yield Bench(actuator, client, namespace)
    finally:
        await actuator.stop()
