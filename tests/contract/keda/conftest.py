"""The actuator, and KEDA's own protocol."""

from collections.abc import AsyncIterator

import pytest
from tests.keda import Protocol, compiled

from headrace.contracts.events import WorkerHeartbeat
from headrace.devstack.ports import HOST, free
from headrace.scaler.actuators.keda.actuator import Keda
from headrace.settings import KedaSettings


@pytest.fixture(scope="session")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    return compiled(tmp_path_factory.mktemp("protocol"))


@pytest.fixture
def settings() -> KedaSettings:
    return KedaSettings(host=HOST, port=free(1)[0])


@pytest.fixture
async def keda(settings: KedaSettings) -> AsyncIterator[Keda]:
    """Started, and not acting yet."""
    beats: dict[str, WorkerHeartbeat] = {}
    actuator = Keda(settings, lambda: beats)
    await actuator.start()
    yield actuator
    await actuator.stop()
