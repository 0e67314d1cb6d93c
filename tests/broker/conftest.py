"""Settings and topics on the session's real broker; a prefix of its own keeps each test apart."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from headrace.kafka.admin import Admin
from headrace.settings import KafkaSettings, Settings, WorkerSettings


@pytest.fixture(autouse=True)
async def farewells() -> AsyncIterator[None]:
    """Wait for the ends of all connections: over TLS a close waits for the other side, aiokafka does not.

    A loop that is closed before leaks a socket, for which the next collection's test is blamed.
    """
    yield
    transports = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
    try:
        async with asyncio.timeout(20):
            # One that has ended has no socket any more, though others may still name it.
            while any(each._sock is not None for each in transports.values()):
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"left open: {list(transports.values())}")


@pytest.fixture
def settings(broker):
    kafka = KafkaSettings(
        bootstrap_servers=broker,
        topic_prefix=f"t{uuid.uuid4().hex[:8]}.",
        replication_factor=1,
        min_insync_replicas=1,
        partitions=4,
        send_timeout_s=10,
    )
    return Settings(kafka=kafka, worker=WorkerSettings(session_timeout_s=6.0))


@pytest.fixture
async def model(settings):
    """The topics of a model called `echo`, and the shared ones; gives its request plans."""
    topics = settings.kafka.topics
    plans = topics.request_plans("echo", 4)
    async with Admin(settings.kafka) as admin:
        await admin.ensure_topics([*topics.shared_plans(), *plans])
        await admin.commit_initial_offsets(topics.group("echo"), plans)
    return plans
