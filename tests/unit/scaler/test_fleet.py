"""What the scaler knows from the topics alone."""

import time
from dataclasses import replace

import pytest

from headrace.contracts.events import GatewayHeartbeat, ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.manifest import Manifest
from headrace.contracts.topics import Topics
from headrace.core.ports import Place, Record
from headrace.core.scaling import Failures, Phase, Wanted, Worker
from headrace.scaler.actuator import Cause, Exit, Unit
from headrace.scaler.fleet import Fleet
from headrace.settings import ScalerSettings

TOPICS = Topics()


def record(topic, key, event):
    value = None if event is None else event.encode()
    return Record(Place(topic, 0, 0), key.encode(), value, {}, 0)


def deployed(name="chat", version="v1", workers=1):
    manifest = Manifest.model_validate(
        {
            "name": name,
            "engine": {"kind": "echo"},
            "scaling": {"min_workers": workers, "max_workers": 9},
        }
    )
    return ModelDeployed(
        name=name,
        slug=name,
        version=version,
        package_url="s3://b/k",
        manifest=manifest,
        partitions=4,
        deployed_at_s=0,
    )


def heartbeat(worker_id, state, sent_at_s=None):
    return WorkerHeartbeat(
        id=worker_id,
        pid=1,
        host="h",
        model="chat",
        version="v1",
        state=state,
        in_flight=0,
        capacity=1,
        started_at_s=0,
        sent_at_s=time.time() if sent_at_s is None else sent_at_s,
    )


@pytest.fixture
def fleet():
    fleet = Fleet(TOPICS, ScalerSettings())
    fleet.update([record(TOPICS.models, "chat", deployed(workers=2))])
    return fleet


def test_what_is_deployed_is_wanted(fleet):
    assert fleet.observe([], 0.0).models == {"chat": Wanted("v1", 2)}
    fleet.update([record(TOPICS.models, "chat", None)])
    assert fleet.observe([], 0.0).models == {}


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (None, Phase.STARTING),
        (WorkerState.STARTING, Phase.STARTING),
        (WorkerState.READY, Phase.READY),
        (WorkerState.DRAINING, Phase.DRAINING),
        (WorkerState.FAILED, Phase.DRAINING),
    ],
)
def test_phases(fleet, state, phase):
    if state is not None:
        fleet.update([record(TOPICS.workers, "w", heartbeat("w", state))])
    unit = Unit("w", "chat", "v1", 0.0)
    assert fleet.worker(unit).phase is phase
    assert fleet.worker(replace(unit, stopping=True)).phase is Phase.DRAINING


def test_a_unit_may_have_one_worker_after_another(fleet):
    unit = Unit("pod", "chat", "v1", 0.0)
    first = heartbeat("w1", WorkerState.READY).model_copy(update={"unit": "pod", "started_at_s": 1.0})
    second = heartbeat("w2", WorkerState.STARTING).model_copy(update={"unit": "pod", "started_at_s": 9.0})
    fleet.update([record(TOPICS.workers, each.id, each) for each in (first, second)])
    assert fleet.worker(unit).phase is Phase.STARTING
    assert fleet.living(["pod", "other"]) == {"w1", "w2", "other"}

    ended = Exit(unit, Cause.CRASHED, "ended", at_s=5.0, is_gone=False)
    assert [beat.id for beat in fleet.dead(ended)] == ["w1"]
    fleet.ended(ended)

    assert fleet.living(["pod"]) == {"w2"}
    assert set(fleet.heartbeats) == {"w2"}


@pytest.mark.parametrize(("note", "cold_start_s"), [("", 70.0), ("waits for 1 GPU (0 of 4 free)", 10.0)])
def test_to_wait_for_room_is_no_part_of_a_start(fleet, note, cold_start_s):
    fleet.update([record(TOPICS.models, "chat", deployed())])
    fleet.spawned("w-1", -60.0)
    fleet.worker(Unit("w-1", "chat", "v1", -60.0, note=note))
    for state, sent_at_s in ((WorkerState.STARTING, 0.0), (WorkerState.READY, 10.0)):
        fleet.update([record(TOPICS.workers, "w-1", heartbeat("w-1", state, sent_at_s))])
    assert fleet.known["chat"].cold_start_s == cold_start_s


def test_who_has_left_is_kept_for_its_obituary_and_no_longer(fleet):
    fleet.update([record(TOPICS.workers, "w", heartbeat("w", WorkerState.READY))])
    fleet.update([record(TOPICS.workers, "w", None)])
    fleet.stale({"w"}, 0.0)
    assert "w" in fleet.heartbeats
    fleet.stale(set(), 0.0)
    assert "w" not in fleet.heartbeats


def test_failures_count_until_a_worker_is_stable_or_a_new_version_comes(fleet):
    assert [fleet.failed("chat", 1.0), fleet.failed("chat", 2.0)] == [1, 2]
    assert fleet.observe([], 3.0).failures == {"chat": Failures(2, 2.0)}
    young = Worker("w", "chat", "v1", Phase.READY, started_at_s=3.0)
    assert fleet.observe([young], 4.0).failures != {}
    assert fleet.observe([young], 20.0).failures == {}
    fleet.failed("chat", 30.0)
    fleet.update([record(TOPICS.models, "chat", deployed(version="v2"))])
    assert fleet.observe([], 31.0).failures == {}


def test_the_long_dead_are_named_once(fleet):
    now_s = 1000.0
    gateway = GatewayHeartbeat(id="g", pid=1, host="h", reply_partition=0, sent_at_s=now_s - 100)
    fleet.update(
        [
            record(TOPICS.workers, "old", heartbeat("old", WorkerState.FAILED, now_s - 100)),
            record(TOPICS.workers, "mine", heartbeat("mine", WorkerState.READY, now_s - 100)),
            record(TOPICS.workers, "new", heartbeat("new", WorkerState.READY, now_s - 1)),
            record(TOPICS.workers, "g", gateway),
            record(TOPICS.workers, "left", heartbeat("left", WorkerState.STOPPED, now_s - 100)),
            record(TOPICS.workers, "left", None),
        ]
    )
    assert sorted(fleet.stale({"mine"}, now_s)) == ["g", "old"]
    assert fleet.stale({"mine"}, now_s) == []


def test_a_record_that_cannot_be_read_is_passed_over(fleet):
    fleet.update([Record(Place(TOPICS.models, 0, 0), b"chat", b"{", {}, 0)])
    assert "chat" in fleet.known
