"""What the scaler knows from the topics alone."""

import time
from dataclasses import replace

import pytest

from headrace.contracts.decisions import Trusted
from headrace.contracts.events import GatewayHeartbeat, ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.manifest import Manifest
from headrace.contracts.topics import Topics
from headrace.core.ports import Place, Record
from headrace.core.scaling import Failures, Phase, Stop, Wanted, Worker, decide
from headrace.scaler.actuator import Cause, Exit, Unit
from headrace.scaler.fleet import Fleet
from headrace.scaler.known import Depth
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
    fleet.update([record(TOPICS.models, "chat", deployed().model_copy(update={"retiring": True}))])
    fleet.update([record(TOPICS.models, "chat", None)])
    assert fleet.observe([], 0.0).models == {}


def test_a_removal_ends_only_what_was_to_go(fleet):
    wanted = deployed(version="v2")
    back = wanted.model_copy(update={"retiring": True, "returning": True})
    for event in (wanted, back):
        fleet.update([record(TOPICS.models, "chat", event)])
        fleet.known["chat"].busy_at_s = 1.0
        fleet.update([record(TOPICS.models, "chat", None)])
        assert fleet.known["chat"].deployed == back
        assert not fleet.known["chat"].busy_at_s, "nothing is left of what it was"
    fleet.measure({}, 20.0)
    assert not fleet.known["chat"].is_done(1e9)


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
    assert fleet.worker(unit, 0.0).phase is phase
    assert fleet.worker(replace(unit, stopping=True), 0.0).phase is Phase.DRAINING


def test_a_unit_may_have_one_worker_after_another(fleet):
    unit = Unit("pod", "chat", "v1", 0.0)
    first = heartbeat("w1", WorkerState.READY).model_copy(update={"unit": "pod", "started_at_s": 1.0})
    second = heartbeat("w2", WorkerState.STARTING).model_copy(update={"unit": "pod", "started_at_s": 9.0})
    fleet.update([record(TOPICS.workers, each.id, each) for each in (first, second)])
    assert fleet.worker(unit, 0.0).phase is Phase.STARTING
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
    fleet.worker(Unit("w-1", "chat", "v1", -60.0, note=note), 0.0)
    for state, sent_at_s in ((WorkerState.STARTING, 0.0), (WorkerState.READY, 10.0)):
        fleet.update([record(TOPICS.workers, "w-1", heartbeat("w-1", state, sent_at_s))])
    assert fleet.known["chat"].cold_start_s == cold_start_s


def test_a_start_by_a_clock_that_is_behind_says_nothing(fleet):
    fleet.spawned("w", 100.0)
    for state, at_s in ((WorkerState.STARTING, 88.0), (WorkerState.READY, 90.0)):
        fleet.update([record(TOPICS.workers, "w", heartbeat("w", state, at_s))])
    assert fleet.known["chat"].cold_start_s == 30.0
    assert fleet.took() == []


def test_starts_that_were_seen_while_another_acted_are_its_to_tell(fleet):
    for state, at_s in ((WorkerState.STARTING, 88.0), (WorkerState.READY, 90.0)):
        fleet.update([record(TOPICS.workers, "w", heartbeat("w", state, at_s))])
    fleet.resign()
    assert fleet.took() == []
    assert fleet.known["chat"].cold_start_s == 90.0, "and known all the same"


def test_a_start_that_came_to_nothing_is_forgotten(fleet):
    for name in ("w-1", "w-2"):
        fleet.spawned(name, -60.0)
    fleet.see([Unit("w-2", "chat", "v1", -60.0)])
    for state, sent_at_s in ((WorkerState.STARTING, 0.0), (WorkerState.READY, 10.0)):
        beats = [heartbeat(name, state, sent_at_s) for name in ("w-1", "w-2")]
        fleet.update([record(TOPICS.workers, beat.id, beat) for beat in beats])
    assert fleet.took() == [("chat", 10.0), ("chat", 70.0)]


def test_why_units_cannot_start_is_a_reason_and_no_fault(fleet):
    waits = [Unit(name, "chat", "v1", 0.0, note="no node has a free GPU") for name in ("a", "b")]
    fleet.see([*waits, Unit("c", "chat", "v1", 0.0), Unit("d", "gone", "v1", 0.0, note="no such image")])
    assert fleet.known["chat"].reason == "2 cannot start: no node has a free GPU"
    assert fleet.worker(waits[0], 10_000.0).fault == ""
    fleet.see([])
    assert fleet.known["chat"].reason == ""


def test_who_has_left_is_kept_for_its_obituary_and_no_longer(fleet):
    fleet.update([record(TOPICS.workers, "w", heartbeat("w", WorkerState.READY))])
    fleet.update([record(TOPICS.workers, "w", None)])
    fleet.stale({"w"}, 0.0)
    assert "w" in fleet.heartbeats
    fleet.stale(set(), 0.0)
    assert "w" not in fleet.heartbeats


def ready(name, version="v1"):
    return Worker(name, "chat", version, Phase.READY, started_at_s=0.0)


@pytest.mark.parametrize("is_known", [False, True])
def test_nobody_goes_while_topics_cannot_be_read(is_known):
    fleet = Fleet(TOPICS, ScalerSettings())
    fleet.update([record(TOPICS.models, "chat", deployed(workers=0))])
    workers = [ready("w")]
    if is_known:
        fleet.measure({"chat": Depth(0, 0)}, 0.0)
        fleet.plan(workers, 0.0)
    fleet.plan(workers, 1000.0, is_read=False)
    assert decide(fleet.observe(workers, 1000.0), [0.0], 1000.0) == ()
    for now_s in (1001.0, 2000.0):
        fleet.measure({"chat": Depth(0, 0)}, now_s)
        fleet.plan(workers, now_s)
    (stop,) = decide(fleet.observe(workers, 2000.0), [0.0], 2000.0)
    assert isinstance(stop, Stop), "once they are read"


def prove(fleet):
    """Its worker is well for long enough, and that is written down."""
    fleet.prove([ready("w")], 0.0)
    for each in fleet.prove([ready("w")], 20.0):
        fleet.trust(each)


def unit(version="v1"):
    return Unit("w", "chat", version, 0.0)


def test_failures_count_until_a_worker_is_stable_or_a_new_version_comes(fleet):
    assert [fleet.failed(unit(), "no file", at_s) for at_s in (1.0, 2.0)] == [1, 2]
    assert fleet.observe([], 3.0).failures == {"chat": Failures(2, 2.0, "no file")}
    assert fleet.prove([ready("w")], 4.0) == []
    assert fleet.observe([], 4.0).failures != {}
    (well,) = fleet.prove([ready("w")], 20.0)
    assert well.version == "v1"
    assert fleet.observe([], 20.0).failures == {}
    assert fleet.prove([ready("w")], 20.5) == [well], "until it is written down"
    fleet.trust(well)
    assert fleet.prove([ready("w")], 21.0) == []
    fleet.failed(unit(), "no file", 30.0)
    fleet.update([record(TOPICS.models, "chat", deployed(version="v2"))])
    assert fleet.observe([], 31.0).failures == {}


def test_a_clock_that_is_set_back_makes_no_worker_new(fleet):
    fleet.prove([ready("w")], 4000.0)
    assert fleet.prove([ready("w")], 400.0) == []
    assert len(fleet.prove([ready("w")], 410.0)) == 1


def test_who_fails_beside_one_that_is_well_is_started_again_ever_later(fleet):
    fleet.prove([ready("w")], 0.0)
    for count in range(1, 4):
        assert fleet.failed(unit(), "no memory", 100.0 + count) == count, "the GPU holds one of them"
        fleet.prove([ready("w")], 100.5 + count)
        fleet.plan([ready("w")], 100.5 + count)
    assert "3 workers in a row have failed, at last: no memory" in fleet.known["chat"].reason
    assert decide(fleet.observe([ready("w")], 104.0), [0.0, 1.0, 5.0], 104.0) == ()
    fleet.prove([ready("w"), ready("later")], 110.0)
    fleet.prove([ready("w"), ready("later")], 120.0)
    assert fleet.observe([], 120.0).failures == {}


def test_how_workers_of_another_version_end_is_no_fault_of_this_one(fleet):
    prove(fleet)
    fleet.update([record(TOPICS.models, "chat", deployed(version="v2"))])
    assert [fleet.failed(unit("v1"), "no file", 30.0 + number) for number in range(5)] == [0] * 5
    assert fleet.roll_backs(40.0) == []
    assert fleet.observe([], 40.0).failures == {}, "nobody waits to start the new one"


def test_a_version_that_was_never_well_makes_place_for_the_one_that_was(fleet):
    prove(fleet)
    fleet.update([record(TOPICS.models, "chat", deployed(version="v2"))])
    for count in range(1, 4):
        assert fleet.roll_backs(30.0) == []
        assert fleet.failed(unit("v2"), "no file", 30.0) == count

    (back,) = fleet.roll_backs(31.0)
    assert (back.version, back.deployed_at_s) == ("v1", 31.0)
    assert back.rolled_back.version == "v2"
    assert back.rolled_back.reason == "3 workers in a row failed, at last: no file"

    fleet.deploy(back)
    assert fleet.roll_backs(32.0) == []
    assert fleet.observe([], 32.0).failures == {}


def test_a_version_that_comes_back_stays_although_it_was_to_go_once(fleet):
    fleet.update([record(TOPICS.models, "chat", deployed().model_copy(update={"retiring": True}))])
    prove(fleet)
    fleet.update([record(TOPICS.models, "chat", deployed(version="v2"))])
    for _ in range(3):
        fleet.failed(unit("v2"), "no file", 30.0)
    (back,) = fleet.roll_backs(31.0)
    assert (back.version, back.retiring) == ("v1", False)


def test_a_model_whose_topics_are_gone_already_goes_too(fleet):
    fleet.measure({}, 10.0)
    assert fleet.known["chat"].depth is None, "they may not be there yet"
    fleet.update([record(TOPICS.models, "chat", deployed().model_copy(update={"retiring": True}))])
    fleet.measure({}, 20.0)
    assert not fleet.known["chat"].is_done(22.0)
    assert fleet.known["chat"].is_done(24.0)


def test_a_version_that_takes_over_is_tried_before_it_has_work():
    fleet = Fleet(TOPICS, ScalerSettings())
    event = deployed()
    for changes, least in (({"min_workers": 0}, 1), ({"min_workers": 2}, 2), ({"max_workers": 0}, 0)):
        scaling = event.manifest.scaling.model_copy(update={"min_workers": 0, "max_workers": 3} | changes)
        manifest = event.manifest.model_copy(update={"scaling": scaling})
        now = event.model_copy(update={"manifest": manifest, "version": "v2"})
        fleet.update([record(TOPICS.models, "chat", now)])
        fleet.update([record(TOPICS.scaler, "trusted/chat", None)])
        known = fleet.known["chat"]
        fleet.plan([], 0.0)
        assert known.target == scaling.min_workers, "who was never well before has nothing to take over"
        fleet.update([record(TOPICS.scaler, "trusted/chat", Trusted(deployed=event, at_s=1.0))])
        known.depth = Depth(0, 0)
        fleet.plan([], 0.0)
        assert known.target == least
    fleet.update([record(TOPICS.models, "chat", now.model_copy(update={"retiring": True}))])
    fleet.plan([], 0.0)
    assert fleet.known["chat"].limits[0] == 0, "who is to go proves nothing"


def test_who_is_tried_says_so_until_it_is_well(fleet):
    fleet.update([record(TOPICS.scaler, "trusted/chat", Trusted(deployed=deployed(version="v0"), at_s=1.0))])
    fleet.known["chat"].depth = Depth(0, 0)
    fleet.plan([], 0.0)
    assert fleet.known["chat"].reason.startswith("version v1 is tried")
    prove(fleet)
    fleet.plan([ready("w")], 20.0)
    assert "tried" not in fleet.known["chat"].reason


def test_a_trial_takes_no_worker_from_a_model_that_has_work():
    fleet = Fleet(TOPICS, ScalerSettings(max_workers=1))
    fleet.update([record(TOPICS.models, name, deployed(name, workers=0)) for name in ("chat", "other")])
    before = Trusted(deployed=deployed(version="v0"), at_s=1.0)
    fleet.update([record(TOPICS.scaler, "trusted/chat", before)])
    fleet.measure({"chat": Depth(0, 0), "other": Depth(9, 9)}, 0.0)
    fleet.plan([], 0.0)
    found = fleet.observe([], 0.0).models
    assert (found["chat"].workers, found["other"].workers) == (0, 1)
    assert found["chat"].reason.startswith("budget of workers: 0 of 1 (version v1 is tried")
    fleet.measure({"chat": Depth(0, 0), "other": Depth(0, 9)}, 1000.0)
    fleet.plan([], 2000.0)
    assert fleet.observe([], 2000.0).models["chat"].workers == 1


def test_which_version_was_well_is_known_to_the_next_scaler(fleet):
    trusted = Trusted(deployed=deployed(version="v0"), at_s=1.0)
    fleet.update([record(TOPICS.scaler, "trusted/chat", trusted)])
    for _ in range(3):
        fleet.failed(unit(), "no file", 30.0)
    assert [each.version for each in fleet.roll_backs(31.0)] == ["v0"]
    fleet.update([record(TOPICS.scaler, "trusted/chat", None)])
    assert fleet.roll_backs(31.0) == []


def test_a_start_that_takes_too_long_is_a_fault(fleet):
    unit = Unit("w", "chat", "v1", started_at_s=100.0)
    assert fleet.worker(unit, 999.0).fault == ""
    assert fleet.worker(unit, 1001.0).fault == "is not ready 901 s after its start"
    assert fleet.worker(replace(unit, stopping=True), 1001.0).fault == ""


def test_to_have_waited_for_room_is_no_fault_when_there_is_some(fleet):
    unit = Unit("w", "chat", "v1", started_at_s=100.0)
    fleet.worker(replace(unit, note="ImagePullBackOff"), 5000.0)
    fleet.spawned("w", unit.started_at_s)
    assert fleet.worker(unit, 5001.0).fault == ""
    assert fleet.worker(unit, 5901.0).fault == "is not ready 901 s after its start"


def test_who_is_not_heard_is_at_fault_unless_nobody_could_be_heard(fleet):
    unit = Unit("w", "chat", "v1", started_at_s=100.0)
    fleet.update([record(TOPICS.workers, "w", heartbeat("w", WorkerState.READY, sent_at_s=200.0))])
    assert fleet.worker(unit, 229.0).fault == ""
    assert fleet.worker(unit, 231.0).fault == "has not been heard for 31 s"
    fleet.deaf(220.0)
    assert fleet.worker(unit, 249.0).fault == ""
    assert fleet.worker(unit, 251.0).fault != ""


def test_who_became_ready_while_nobody_listened_is_not_late(fleet):
    unit = Unit("w", "chat", "v1", started_at_s=100.0)
    fleet.deaf(1500.0)
    assert fleet.worker(unit, 1501.0).fault == ""
    assert fleet.worker(unit, 1511.0).fault == "is not ready 1411 s after its start"


def test_why_a_worker_failed_is_what_it_said_or_what_it_was_ended_for(fleet):
    unit = Unit("w", "chat", "v1", 0.0)
    assert fleet.verdict(Exit(unit, Cause.KILLED, "was killed by signal 9", at_s=9.0)) is None
    assert (
        fleet.verdict(Exit(unit, Cause.FAILED, "ended with exit code 1", at_s=9.0))
        == "ended with exit code 1"
    )
    said = heartbeat("w", WorkerState.FAILED).model_copy(update={"reason": "the canary failed"})
    fleet.update([record(TOPICS.workers, "w", said)])
    assert fleet.verdict(Exit(unit, Cause.FAILED, "ended with exit code 1", at_s=9.0)) == "the canary failed"
    fleet.condemn("w", "has not been heard")
    killed = Exit(unit, Cause.KILLED, "was killed by signal 9", at_s=9.0)
    assert fleet.verdict(killed) == "has not been heard"
    fleet.ended(killed)
    assert fleet.verdict(killed) is None


def test_who_was_to_be_ended_and_is_well_again_has_not_failed(fleet):
    unit = Unit("w", "chat", "v1", started_at_s=100.0)
    drained = Exit(unit, Cause.ASKED, "has ended", at_s=300.0)
    fleet.update([record(TOPICS.workers, "w", heartbeat("w", WorkerState.READY, sent_at_s=200.0))])
    fleet.condemn("w", fleet.worker(unit, 231.0).fault)
    fleet.worker(replace(unit, stopping=True), 232.0)
    assert fleet.verdict(drained) == "has not been heard for 31 s"
    fleet.update([record(TOPICS.workers, "w", heartbeat("w", WorkerState.READY, sent_at_s=233.0))])
    fleet.worker(unit, 234.0)
    assert fleet.verdict(drained) is None


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
    fleet.deaf(now_s - 60)
    assert fleet.stale({"mine"}, now_s) == [], "who listened to nobody takes nobody for dead"
    fleet.deaf(now_s - 61)
    assert sorted(fleet.stale({"mine"}, now_s)) == ["g", "old"]
    assert fleet.stale({"mine"}, now_s) == []


def test_a_record_that_cannot_be_read_is_passed_over(fleet):
    fleet.update([Record(Place(TOPICS.models, 0, 0), b"chat", b"{", {}, 0)])
    assert "chat" in fleet.known


class TestAccounts:
    """What is not accounted for, and when that begins anew."""

    def beat(self, sent_at_s, settled=0, in_flight=0, name="w-1"):
        event = heartbeat(name, WorkerState.READY, sent_at_s)
        return event.model_copy(update={"settled": settled, "in_flight": in_flight})

    def run(self, fleet, committed, settled, until_s, since_s=0):
        for now_s in range(since_s, until_s):
            fleet.update([record(TOPICS.workers, "w-1", self.beat(now_s, settled))])
            fleet.measure({"chat": Depth(0, committed)}, float(now_s))

    def test_a_worker_that_is_not_heard_has_what_it_ran(self, fleet):
        fleet.update([record(TOPICS.workers, "w-1", self.beat(0.0, in_flight=3))])
        fleet.measure({"chat": Depth(5, 5)}, 9.0)
        assert fleet.known["chat"].unaccounted == 0
        fleet.measure({"chat": Depth(5, 5)}, 11.0)
        assert fleet.known["chat"].unaccounted == 3
        fleet.update([record(TOPICS.workers, "w-1", self.beat(12.0, in_flight=3))])
        fleet.measure({"chat": Depth(5, 5)}, 12.0)
        assert fleet.known["chat"].unaccounted == 0

    def test_what_ended_before_a_worker_served_was_late_or_cancelled(self, fleet):
        self.run(fleet, 5, 5, 2)
        starting = heartbeat("w-1", WorkerState.STARTING, 2.0).model_copy(update={"settled": 5})
        fleet.update([record(TOPICS.workers, "w-1", starting)])
        fleet.measure({"chat": Depth(0, 7)}, 3.0)
        self.run(fleet, 9, 5, 30, 4)
        assert fleet.known["chat"].unaccounted == 0

    def test_a_worker_that_was_killed_is_forgiven(self, fleet):
        self.run(fleet, 5, 5, 20)
        self.run(fleet, 9, 5, 40, 20)
        assert fleet.known["chat"].unaccounted == 4
        fleet.ended(Exit(Unit("w-1", "chat", "v1", 0.0), Cause.KILLED, "by whom", 40.0))
        assert fleet.known["chat"].unaccounted == 0

    def test_a_worker_that_was_asked_to_go_is_not(self, fleet):
        self.run(fleet, 5, 5, 20)
        self.run(fleet, 9, 5, 40, 20)
        fleet.ended(Exit(Unit("w-1", "chat", "v1", 0.0), Cause.ASKED, "so", 40.0))
        assert fleet.known["chat"].unaccounted == 4

    def test_the_last_word_of_a_worker_may_be_read_after_its_end_was_seen(self, fleet):
        self.run(fleet, 5, 5, 20)
        fleet.ended(Exit(Unit("w-1", "chat", "v1", 0.0), Cause.ASKED, "so", 20.0))
        stopped = self.beat(19.5, 8).model_copy(update={"state": WorkerState.STOPPED})
        fleet.update([record(TOPICS.workers, "w-1", stopped), record(TOPICS.workers, "w-1", None)])
        assert fleet.known["chat"].told == 3, "since it was first heard"
        for now_s in range(20, 40):
            fleet.measure({"chat": Depth(0, 4)}, float(now_s))
        assert fleet.known["chat"].unaccounted == 4, "and the account goes on"

    def test_a_worker_first_heard_late_has_done_what_nobody_knows(self, fleet):
        self.run(fleet, 5, 5, 20)
        fleet.update([record(TOPICS.workers, "w-2", self.beat(20.0, 100, name="w-2"))])
        self.run(fleet, 105, 5, 40, 20)
        assert fleet.known["chat"].unaccounted == 0
