"""A model that is deployed while it is being removed, at each moment of that: a real scaler, a real Kafka."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from tests.elastic import MANIFEST

from headrace.cli.deployer import Deployer
from headrace.contracts.errors import SetupError
from headrace.contracts.events import ModelDeployed
from headrace.core.deployments import latest
from headrace.core.ports import Outgoing
from headrace.kafka.admin import Admin
from headrace.kafka.lookup import every
from headrace.kafka.producer import Producer
from headrace.registry.function import pack
from headrace.scaler import app, known
from headrace.settings import ScalerSettings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


class Control:
    """Whoever deploys and undeploys. halfway: what a deployment waits for between its topics and its word."""

    def __init__(self, settings, folder):
        self._settings = settings
        self._deployer = Deployer(settings)
        self._producer = Producer(settings.kafka, source="test")
        self._folder = folder
        self.halfway = None
        self.begun = asyncio.Event()

    async def __aenter__(self):
        await self._producer.start()
        await self._deployer.__aenter__()
        admin = self._deployer._admin
        ensure = admin.ensure_topics

        async def ensure_and_wait(plans):
            await ensure(plans)
            self.begun.set()
            if self.halfway is not None:
                await self.halfway.wait()

        admin.ensure_topics = ensure_and_wait
        return self

    async def __aexit__(self, *error):
        await self._deployer.__aexit__(*error)
        await self._producer.stop()

    async def deploy(self, number):
        """The version after so many."""
        (self._folder / "function.yaml").write_text(MANIFEST + f"description: number {number}\n")
        stored = asyncio.get_running_loop().create_future()
        stored.set_result(None)
        (event,) = await self._deployer.deploy([pack(self._folder)], stored)
        return event

    async def undeploy(self):
        there = await self.deployed()
        event = there.model_copy(update={"retiring": True, "returning": False, "deployed_at_s": time.time()})
        await self.send(self._settings.kafka.topics.models, event.encode(), b"elastic")

    async def deployed(self):
        return latest(await self.log(), "elastic")

    async def log(self):
        return [record async for record in every(self._settings.kafka, self._settings.kafka.topics.models)]

    async def until(self, is_so):
        """Until what is deployed is so."""
        async with asyncio.timeout(30):
            while not is_so(await self.deployed()):
                await asyncio.sleep(0.02)

    async def send(self, topic, value, key=None):
        await (await self._producer.send(Outgoing(topic, value, key)))


@asynccontextmanager
async def acting(settings):
    """With a scaler that has no room for workers."""
    settings = settings.model_copy(update={"scaler": ScalerSettings(max_workers=0)})
    stop = asyncio.Event()
    task = asyncio.create_task(app.run(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@pytest.fixture
async def control(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(known, "_RETIRED_S", 0.2)
    async with Control(settings, tmp_path) as control:
        yield control


async def takes_requests(control, settings, version):
    """It is deployed, its topics are there, and what is asked of it waits for a worker."""
    topics = settings.kafka.topics
    now = await control.deployed()
    assert (now.version, now.retiring, now.returning) == (version, False, False)
    await control.send(topics.requests("elastic", "default"), b"{}")
    async with Admin(settings.kafka) as admin:
        rows = (await admin.backlog("elastic")).rows
    assert len(rows) == 3 * now.partitions
    assert sum(row.requests for row in rows) == 1


@pytest.mark.parametrize("when", ["before the deletion", "after the deletion", "after the tombstone"])
async def test_what_is_deployed_while_it_is_removed_comes_back(settings, control, monkeypatch, when):
    deploying = []
    delete = Admin.delete_topics

    async def deploy_meanwhile():
        deploying.append(asyncio.create_task(control.deploy(2)))
        await control.until(lambda event: event.returning)

    async def delete_topics(admin, names):
        if when == "before the deletion":
            await deploy_meanwhile()
        await delete(admin, names)
        if when == "after the deletion":
            await deploy_meanwhile()

    monkeypatch.setattr(Admin, "delete_topics", delete_topics)
    await control.deploy(1)
    async with acting(settings):
        await control.undeploy()
        if when == "after the tombstone":
            await control.until(lambda event: event is None)
            deploying.append(asyncio.create_task(control.deploy(2)))
        async with asyncio.timeout(30):
            while not deploying:
                await asyncio.sleep(0.02)
            event = await deploying[0]
    assert None in [record.value for record in await control.log()], "it was removed"
    await takes_requests(control, settings, event.version)


async def test_a_deployment_that_had_begun_before_the_removal_comes_back(settings, control):
    await control.deploy(1)
    control.begun.clear()
    control.halfway = asyncio.Event()
    async with acting(settings):
        deploying = asyncio.create_task(control.deploy(2))
        await control.begun.wait()
        await control.undeploy()
        await control.until(lambda event: event is None)
        control.halfway.set()
        event = await deploying
    await takes_requests(control, settings, event.version)


async def test_what_still_has_work_is_only_kept(settings, control):
    first = await control.deploy(1)
    await control.send(settings.kafka.topics.requests("elastic", "flex"), b"{}")
    await control.undeploy()
    event = await asyncio.gather(control.deploy(2), _act_late(settings, control))
    assert event[0].version != first.version
    assert None not in [record.value for record in await control.log()]
    async with Admin(settings.kafka) as admin:
        assert sum(row.requests for row in (await admin.backlog("elastic")).rows) == 1


async def _act_late(settings, control):
    await control.until(lambda event: event.returning)
    async with acting(settings):
        await control.until(lambda event: not event.retiring)


async def test_who_undeploys_it_again_has_the_last_word(settings, control):
    await control.deploy(1)
    await control.undeploy()
    deploying = asyncio.create_task(control.deploy(2))
    await control.until(lambda event: event.returning)
    await control.undeploy()
    with pytest.raises(SetupError, match="was undeployed again meanwhile"):
        await deploying
    async with acting(settings):
        await control.until(lambda event: event is None)
    async with Admin(settings.kafka) as admin:
        assert not (await admin.backlog("elastic")).rows


async def test_without_a_scaler_a_deployment_says_what_it_waits_for(settings, control, monkeypatch, capsys):
    monkeypatch.setattr("headrace.cli.deployer._BACK_S", 0.5)
    first = await control.deploy(1)
    await control.undeploy()
    with pytest.raises(SetupError, match=r"no scaler has brought it back within 0\.5 s"):
        await control.deploy(2)
    assert capsys.readouterr().err == "elastic is being removed: the scaler brings it back\n"
    async with acting(settings):
        await control.until(lambda event: not event.retiring)
    now = await control.deployed()
    assert isinstance(now, ModelDeployed)
    assert now.version != first.version
