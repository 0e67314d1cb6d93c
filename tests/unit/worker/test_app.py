"""A worker without a version: until when it serves what is deployed."""

import asyncio

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from tests.unit.scaler.test_fleet import TOPICS, deployed, record

from headrace.settings import Settings
from headrace.worker import app
from headrace.worker.app import run
from headrace.worker.heartbeat import WorkerSpec


class Reader:
    """In place of the topic `models`: what is there, and then what comes, poll by poll."""

    def __init__(self, *comes):
        self._comes = [*comes]

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        """Nothing to close."""

    async def read_to_end(self):
        return [record(TOPICS.models, "chat", deployed())]

    async def poll(self, timeout_s):
        if not self._comes:
            return await asyncio.Event().wait()
        come = self._comes.pop(0)
        if isinstance(come, Exception):
            raise come
        return [come]


@pytest.fixture
def serve(monkeypatch):
    """Run a worker beside these records; gives what it served."""
    served = []

    async def work(settings, stop, spec):
        served.append(spec.version)
        await stop.wait()

    async def serve(*comes):
        monkeypatch.setattr(app, "PartitionReader", lambda *_: Reader(*comes))
        monkeypatch.setattr(app, "_work", work)
        async with asyncio.timeout(10):
            await run(Settings(), asyncio.Event(), WorkerSpec(id="w", model="chat", version=""))
        return served

    return serve


async def test_it_ends_when_another_version_is_deployed(serve):
    same, other = deployed(), deployed("other", version="v2")
    comes = [record(TOPICS.models, event.name, event) for event in (same, other, deployed(version="v2"))]
    assert await serve(*comes) == ["v1"]


async def test_what_it_cannot_read_replaces_nothing(serve):
    new = record(TOPICS.models, "chat", deployed(version="v2"))
    broken = new._replace(value=b'{"kind":"model-deployed","of":"a newer release"}')
    assert await serve(broken, new) == ["v1"]


async def test_whoever_may_not_hear_of_other_versions_any_more_ends(serve):
    with pytest.raises(TopicAuthorizationFailedError):
        await serve(TopicAuthorizationFailedError("headrace.models"))
