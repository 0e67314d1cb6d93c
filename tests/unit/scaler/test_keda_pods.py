"""Workers that others start: who is there, who is to come, who has ended."""

import pytest

from headrace.contracts.events import WorkerHeartbeat, WorkerState
from headrace.scaler.actuator import Cause, Ending, NewUnit, Orders, Unit
from headrace.scaler.actuators.keda.pods import Pods


def beat(worker_id, state=WorkerState.READY, sent_at_s=0.0, started_at_s=0.0, **others):
    return WorkerHeartbeat(
        id=worker_id,
        pid=1,
        host="h",
        model="chat",
        state=state,
        in_flight=0,
        capacity=1,
        started_at_s=started_at_s,
        sent_at_s=sent_at_s,
        **{"version": "v1", **others},
    )


def heard(pods, now_s, *beats):
    pods.hear({each.id: each for each in beats}, now_s)
    return pods.units(now_s)


def starting(target, version="v1"):
    return Orders(1, [NewUnit("one", "chat", version)], targets={"chat": target})


@pytest.fixture
def pods():
    return Pods()


def test_whoever_was_asked_for_counts_from_then_on(pods):
    pods.order(starting(2))
    assert list(heard(pods, 10.0).values()) == [
        Unit("chat#1", "chat", "v1", 10.0),
        Unit("chat#2", "chat", "v1", 10.0),
    ]
    pods.order(Orders(1, targets={"chat": 3}))
    assert [unit.started_at_s for unit in heard(pods, 14.0).values()] == [10.0, 10.0, 14.0]

    # The first to come is the one that was asked for first, and it counts from then, too.
    found = heard(pods, 18.0, beat("w1", WorkerState.STARTING, 17.0, 16.0))

    assert found["w1"] == Unit("w1", "chat", "v1", 10.0)
    assert [unit.started_at_s for unit in found.values()] == [10.0, 10.0, 14.0]


def test_a_clock_that_is_set_back_keeps_no_dead_worker(pods):
    heard(pods, 3600.0, beat("w1", sent_at_s=3600.0))
    assert list(heard(pods, 4.0, beat("w1", sent_at_s=3600.0))) == ["w1"]
    for now_s in (8.0, 12.0):
        heard(pods, now_s, beat("w1", sent_at_s=3600.0))
    assert heard(pods, 15.0, beat("w1", sent_at_s=3600.0)) == {}


def test_whoever_is_no_longer_asked_for_does_not_count(pods):
    pods.order(starting(1))
    heard(pods, 10.0)
    pods.order(Orders(1, targets={"chat": 3}))
    heard(pods, 20.0)
    pods.order(Orders(1, targets={"chat": 2}))
    assert [unit.started_at_s for unit in heard(pods, 21.0).values()] == [10.0, 20.0]
    pods.order(Orders(1, targets={"chat": 0}))
    assert heard(pods, 22.0) == {}
    pods.order(Orders(1, targets={"chat": 1}))
    assert [unit.started_at_s for unit in heard(pods, 30.0).values()] == [30.0]


def test_whoever_is_too_many_counts_as_stopping_until_somebody_drains(pods):
    three = [beat("w1", started_at_s=1.0), beat("w2", started_at_s=2.0), beat("w3", started_at_s=3.0)]
    pods.order(starting(3))
    assert not any(unit.stopping for unit in heard(pods, 5.0, *three).values())

    pods.order(Orders(1, ends=[Ending("w1")], targets={"chat": 2}))
    assert {unit.id for unit in heard(pods, 6.0, *three).values() if unit.stopping} == {"w1"}

    # Kubernetes took another.
    two = [three[0], three[1], beat("w3", WorkerState.DRAINING, started_at_s=3.0)]
    assert {unit.id for unit in heard(pods, 7.0, *two).values() if unit.stopping} == {"w3"}
    assert set(heard(pods, 8.0, *two[:2])) == {"w1", "w2"}


def test_a_worker_that_dies_is_awaited_anew(pods):
    pods.order(starting(2))
    two = [beat("w1", started_at_s=1.0), beat("w2", started_at_s=2.0)]
    assert set(heard(pods, 5.0, *two)) == {"w1", "w2"}
    found = heard(pods, 90.0, two[0])
    assert found["chat#1"].started_at_s == 90.0, "not when the dead one was asked for"


def test_another_version_is_awaited_beside_the_old_one(pods):
    pods.order(starting(1))
    old = beat("w1")
    heard(pods, 1.0, old)
    pods.order(starting(1, "v2"))
    assert {unit.id: unit.version for unit in heard(pods, 2.0, old).values()} == {"w1": "v1", "chat#1": "v2"}
    new = beat("w2", WorkerState.STARTING, 3.0, 3.0, version="v2")
    found = heard(pods, 4.0, old, new)
    assert (set(found), found["w1"].stopping) == ({"w1", "w2"}, False)
    pods.order(Orders(1, ends=[Ending("w1")], targets={"chat": 1}))
    assert heard(pods, 5.0, old, new)["w1"].stopping


def test_a_version_that_is_taken_back_is_awaited_no_more(pods):
    pods.order(starting(1))
    old = beat("w1")
    heard(pods, 1.0, old)
    pods.order(starting(1, "v2"))
    heard(pods, 2.0, old)
    pods.order(Orders(1, ends=[Ending("chat#1")], targets={"chat": 1}))
    assert heard(pods, 3.0, old) == {"w1": Unit("w1", "chat", "v1", 0.0)}


def test_the_others_that_were_asked_for_are_awaited_when_fewer_are_to_come(pods):
    pods.order(starting(2))
    heard(pods, 1.0)
    pods.order(Orders(1, ends=[Ending("chat#2")], targets={"chat": 1}))
    assert heard(pods, 2.0) == {"chat#1": Unit("chat#1", "chat", "v1", 1.0)}


def test_whoever_does_not_come_in_time_is_awaited_anew(pods):
    pods.order(starting(2))
    heard(pods, 1.0)
    ends = [Ending("chat#1", force=True)]
    pods.order(Orders(1, [NewUnit("one", "chat", "v1")], ends, {"chat": 2}))
    assert [unit.started_at_s for unit in heard(pods, 902.0).values()] == [1.0, 902.0]


def test_who_is_not_ready_in_time_is_given_up_until_it_is(pods):
    pods.order(starting(1))
    slow = beat("w1", WorkerState.STARTING, unit="pod")
    heard(pods, 1.0, slow)
    ends = [Ending("pod", force=True)]
    pods.order(Orders(1, [NewUnit("one", "chat", "v1")], ends, {"chat": 1}))
    found = heard(pods, 902.0, slow)
    assert {unit.id: unit.stopping for unit in found.values()} == {"pod": True, "chat#1": False}

    late = beat("w1", sent_at_s=903.0, unit="pod")
    assert list(heard(pods, 903.0, late).values()) == [Unit("pod", "chat", "v1", 0.0)]

    # Its container ends, and starts again.
    heard(pods, 904.0, beat("w1", WorkerState.FAILED, 904.0, unit="pod"))
    again = beat("w2", WorkerState.STARTING, 905.0, 905.0, unit="pod")
    assert [unit.stopping for unit in heard(pods, 905.0, again).values()] == [False]


def test_whoever_follows_another_scaler_counts_those_that_are_there(pods):
    there = beat("w1")
    assert set(heard(pods, 1.0, there)) == {"w1"}
    pods.order(Orders(2, targets={"chat": 1}))
    assert heard(pods, 2.0, there) == {"w1": Unit("w1", "chat", "v1", 0.0)}


@pytest.mark.parametrize(
    ("last", "cause", "word"),
    [
        (beat("w", WorkerState.STOPPED, 20.0), Cause.ASKED, "has ended"),
        (beat("w", WorkerState.FAILED, 20.0, reason="no such file"), Cause.FAILED, "no such file"),
        (beat("w", WorkerState.READY, 0.0), Cause.KILLED, "not been heard for 10 s"),
        (beat("w", WorkerState.DRAINING, 0.0), Cause.KILLED, "not been heard for 10 s"),
    ],
)
def test_how_a_worker_ended(pods, last, cause, word):
    assert heard(pods, 20.0, last) == {}
    (ended,) = pods.exits()
    assert (ended.unit.id, ended.cause, ended.at_s) == ("w", cause, 0.0)
    assert word in ended.reason
    heard(pods, 21.0)
    assert pods.exits() == []


def test_a_worker_that_took_its_name_off_has_ended(pods):
    heard(pods, 1.0, beat("w"))
    heard(pods, 2.0)
    assert [(ended.unit.id, ended.cause) for ended in pods.exits()] == [("w", Cause.ASKED)]
    heard(pods, 3.0)
    assert pods.exits() == []


def test_an_end_is_told_once(pods):
    last = beat("w", WorkerState.STOPPED)
    for now_s in (1.0, 2.0):
        heard(pods, now_s, last)
    assert len(pods.exits()) == 1
    heard(pods, 3.0, last)
    heard(pods, 4.0)
    assert pods.exits() == []


def test_who_is_heard_has_not_ended_whatever_its_clock_says(pods):
    assert set(heard(pods, 100.0, beat("w", sent_at_s=99.0))) == {"w"}
    for now_s in range(101, 130, 2):
        assert set(heard(pods, now_s, beat("w", sent_at_s=now_s - 60.0))) == {"w"}
        assert pods.exits() == []


def test_the_first_word_of_a_worker_is_one_whatever_its_clock_says(pods):
    heard(pods, 100.0)
    assert set(heard(pods, 102.0, beat("w", WorkerState.STARTING, sent_at_s=82.0, started_at_s=82.0))) == {
        "w"
    }
    assert pods.exits() == []


def test_silence_while_nobody_listened_says_nothing(pods):
    last = beat("w", sent_at_s=0.0)
    assert set(heard(pods, 1.0, last)) == {"w"}
    assert set(heard(pods, 60.0, last)) == {"w"}
    assert pods.exits() == []
    for now_s in (63.0, 66.0, 69.0):
        assert set(heard(pods, now_s, last)) == {"w"}
    assert heard(pods, 71.0, last) == {}
    assert [ended.cause for ended in pods.exits()] == [Cause.KILLED]


def test_a_worker_that_is_followed_by_another_in_its_pod_has_ended(pods):
    first = beat("w1", started_at_s=1.0, unit="pod")
    second = beat("w2", WorkerState.STARTING, 5.0, 5.0, unit="pod")
    assert set(heard(pods, 5.0, first, second)) == {"pod"}
    (ended,) = pods.exits()
    assert (ended.unit.id, ended.cause, ended.at_s) == ("pod", Cause.KILLED, 1.0)


def test_what_was_asked_for_can_be_forgotten(pods):
    pods.order(starting(2))
    heard(pods, 1.0)
    pods.forget()
    assert heard(pods, 2.0, beat("w1")) == {"w1": Unit("w1", "chat", "v1", 0.0)}
