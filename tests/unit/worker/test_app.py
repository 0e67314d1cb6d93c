"""Until when a worker serves: what replaces its version, and what it must hear."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from tests.unit.scaler.test_fleet import TOPICS, record
from tests.unit.scaler.test_fleet import deployed as announced
from tests.unit.worker.test_loop import Source

from headrace.engines.echo import create
from headrace.settings import Settings
from headrace.worker import app
from headrace.worker.app import run
from headrace.worker.heartbeat import Heartbeat, WorkerSpec


class Reader:
    """In place of the topic `models`: what is there, and then what comes, poll by poll."""

    def __init__(self, *comes):
        self._comes = [*comes]

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        """Nothing to close."""

    async def read_to_end(self):
        return [record(TOPICS.models, "chat", announced())]

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
    same, other = announced(), announced("other", version="v2")
    comes = [record(TOPICS.models, event.name, event) for event in (same, other, announced(version="v2"))]
    assert await serve(*comes) == ["v1"]


async def test_what_it_cannot_read_replaces_nothing(serve):
    new = record(TOPICS.models, "chat", announced(version="v2"))
    broken = new._replace(value=b'{"kind":"model-deployed","of":"a newer release"}')
    assert await serve(broken, new) == ["v1"]


async def test_whoever_may_not_hear_of_other_versions_any_more_ends(serve):
    with pytest.raises(TopicAuthorizationFailedError):
        await serve(TopicAuthorizationFailedError("headrace.models"))


class Silent:
    """In place of `control`, which may not be read any more."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        """Nothing to close."""

    async def poll(self, timeout_s):
        raise TopicAuthorizationFailedError("headrace.control")

    async def is_at_end(self):
        return True


class Joined(Source):
    """In place of a share of the group."""

    member_id = group = None
    skipped = 0

    def __init__(self):
        super().__init__()
        self.joined = asyncio.Event()
        self.stopped = False

    def buried(self, event):
        """Nobody dies here."""

    told = buried

    async def start(self):
        self.joined.set()

    async def stop(self):
        self.stopped = True


async def test_a_worker_that_cannot_hear_what_is_said_on_control_ends(monkeypatch, log, deployed):
    async def found(*_):
        return deployed

    @asynccontextmanager
    async def echo(*_):
        yield create(deployed.manifest, None)

    source = Joined()
    monkeypatch.setattr(app, "_find", found)
    monkeypatch.setattr(app, "_engine", echo)
    monkeypatch.setattr(app, "_source", lambda *_: source)
    monkeypatch.setattr(app, "PartitionReader", lambda *_: Silent())
    spec = WorkerSpec(id="w", model="echo", version="v1")
    bench = app._Bench(spec, log, Heartbeat(log, TOPICS.workers, spec))
    with pytest.raises(TopicAuthorizationFailedError):
        async with asyncio.timeout(10):
            await app._serve(Settings(), asyncio.Event(), bench)
    assert source.stopped, "what it held is free for others"
