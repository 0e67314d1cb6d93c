"""A worker's surroundings as plain values: what was published, what was completed."""

import asyncio
import time

import orjson
import pytest

from headrace.contracts import requests
from headrace.contracts.errors import BodyTooLarge, Unavailable
from headrace.contracts.events import ModelDeployed
from headrace.contracts.manifest import Manifest
from headrace.contracts.topics import Topics
from headrace.core.ports import Place, Record


class Log:
    """Fills `Publisher`: remembers records, and fails when told to."""

    def __init__(self, topics):
        self.records = []
        self.known = {"replies.here": 4, topics.replies: 64, topics.results: 8, topics.dead_letters: 4}
        self.failures = []

    async def send(self, record):
        if self.failures:
            raise self.failures.pop(0)
        headers = sum(len(value) for _, value in record.headers or ())
        if len(record.value or b"") + len(record.key or b"") + headers > 1_000_000:
            raise BodyTooLarge("too large for Kafka")
        self.records.append(record)
        receipt = asyncio.get_running_loop().create_future()
        receipt.set_result(Place(record.topic, record.partition or 0, len(self.records)))
        return receipt

    async def partitions(self, topic):
        return self.known.get(topic, 0)

    def fail(self, times):
        self.failures += [Unavailable("no broker")] * times


@pytest.fixture
def topics():
    return Topics()


@pytest.fixture
def log(topics):
    return Log(topics)


@pytest.fixture
def deployed():
    manifest = Manifest.model_validate(
        {
            "name": "echo",
            "engine": {"kind": "echo"},
            "limits": {"max_tokens": 100, "max_body_bytes": 2000, "deadline_s": 60},
        }
    )
    return ModelDeployed(
        name="echo",
        slug="echo",
        version="v1",
        package_url="s3://b/k",
        manifest=manifest,
        partitions=4,
        deployed_at_s=0,
    )


def body(text="hello", **more):
    return orjson.dumps({"messages": [{"role": "user", "content": text}], **more})


def record(value=None, *, offset=0, headers=None, age_s=0.0, head=None):
    if head is not None:
        headers = dict(requests.write(head))
    return Record(
        place=Place("headrace.requests.echo.default", 0, offset),
        key=None,
        value=body() if value is None else value,
        headers=headers or {},
        timestamp_ms=int((time.time() - age_s) * 1000),
    )
