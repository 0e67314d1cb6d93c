"""Control events: there and back, and tolerant of what a newer sender adds."""

import orjson
import pytest

from headrace.contracts import manifest
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.events import (
    Cancel,
    Event,
    GatewayHeartbeat,
    ModelDeployed,
    WorkerHeartbeat,
    WorkerState,
)

_EVENTS = [
    ModelDeployed(
        name="chat",
        slug="chat",
        version="0123456789ab",
        package_url="s3://b/functions/0123456789ab.zip",
        manifest=manifest.parse({"name": "chat", "engine": {"kind": "echo"}}, where="f"),
        partitions=12,
        deployed_at_s=1.5,
    ),
    WorkerHeartbeat(
        id="w-1",
        pid=1,
        host="h",
        model="chat",
        version="v",
        state=WorkerState.READY,
        in_flight=1,
        capacity=8,
        started_at_s=1.0,
        sent_at_s=2.0,
    ),
    GatewayHeartbeat(id="g-1", pid=1, host="h", reply_partition=63, sent_at_s=2.0),
    Cancel(request_id="req_1", reason="the caller left", sent_at_s=2.0),
]


@pytest.mark.parametrize("event", _EVENTS, ids=lambda event: type(event).__name__)
def test_there_and_back(event: Event) -> None:
    assert type(event).decode(event.encode()) == event


@pytest.mark.parametrize("event", _EVENTS, ids=lambda event: type(event).__name__)
def test_unknown_fields_of_a_newer_sender_are_ignored(event: Event) -> None:
    newer = orjson.dumps({**orjson.loads(event.encode()), "mood": "fine"})
    assert type(event).decode(newer) == event


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"\xff", b'{"kind":"worker"}'])
def test_what_is_no_event(value: bytes) -> None:
    for event in _EVENTS:
        with pytest.raises(InvalidRequest, match=f"Not a {type(event).__name__} event"):
            type(event).decode(value)


def test_heartbeats_on_one_topic_are_told_apart() -> None:
    with pytest.raises(InvalidRequest):
        WorkerHeartbeat.decode(_EVENTS[2].encode())
