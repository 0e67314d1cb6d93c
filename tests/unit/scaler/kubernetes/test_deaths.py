"""Every end is told once, with its cause."""

from dataclasses import replace

import pytest

from headrace.contracts.events import ENGINE_DIED
from headrace.contracts.topics import Lane
from headrace.core.journal import InFlight
from headrace.scaler.actuator import Cause
from headrace.scaler.actuators.kubernetes.deaths import Deaths, container
from headrace.scaler.actuators.kubernetes.objects import Pod, Termination

POD = Pod("a", "uid", 1, "chat-1", "chat", "1", 100.0, "Running", is_running=True)


def ended(number: int, exit_code: int, reason: str = "Error", message: str = "") -> Termination:
    return Termination(str(number), exit_code, reason, message, 150.0 + number)


@pytest.fixture
def deaths() -> Deaths:
    deaths = Deaths()
    assert deaths.see(POD, 100.0) is None
    return deaths


@pytest.mark.parametrize(
    ("exit_code", "reason", "cause", "words"),
    [
        (0, "Completed", Cause.ASKED, "has ended"),
        (1, "Error", Cause.FAILED, "ended with exit code 1"),
        (128, "StartError", Cause.FAILED, "ended with exit code 128 (StartError)"),
        (255, "Unknown", Cause.FAILED, "ended with exit code 255 (Unknown)"),
        (ENGINE_DIED, "Error", Cause.CRASHED, "ended because its engine died"),
        (137, "OOMKilled", Cause.CRASHED, "ran out of memory (OOMKilled)"),
        (137, "Error", Cause.KILLED, "was killed by signal 9"),
        (143, "Error", Cause.KILLED, "was killed by signal 15"),
        (130, "Error", Cause.FAILED, "was killed by signal 2"),
        (139, "Error", Cause.CRASHED, "was killed by signal 11"),
    ],
)
def test_how_a_container_ended_says_who_is_to_blame(exit_code, reason, cause, words):
    assert container(ended(1, exit_code, reason)) == (cause, words)


def test_one_that_begins_anew_in_its_pod(deaths):
    now = replace(POD, ended=ended(1, 139, message="D0100070000000000ff\n"))
    told = deaths.see(now, 200.0)
    assert (told.cause, told.is_gone, told.at_s) == (Cause.CRASHED, False, 151.0)
    assert told.in_flight == (InFlight(Lane.DEFAULT, 7, 255, 1),)
    assert "begins anew" in told.reason
    assert deaths.see(now, 201.0) is None, "once"
    assert deaths.see(replace(now, ended=ended(2, 1)), 202.0).cause is Cause.FAILED


def test_what_ended_before_is_not_told():
    deaths = Deaths()
    assert deaths.see(replace(POD, ended=ended(1, 1)), 100.0) is None
    assert deaths.see(replace(POD, uid="other", phase="Failed"), 100.0) is None
    assert deaths.gone(replace(POD, uid="other", phase="Failed"), 101.0) is None
    assert deaths.gone(replace(POD, uid="never seen"), 101.0) is None


def test_one_that_drained(deaths):
    leaving = replace(POD, is_leaving=True)
    assert deaths.see(leaving, 200.0) is None
    over = replace(leaving, is_running=False, ended=ended(1, 0, "Completed"))
    told = deaths.see(over, 210.0)
    assert (told.cause, told.is_gone, told.at_s, told.unit.id) == (Cause.ASKED, True, 210.0, "a")
    assert deaths.see(over, 211.0) is None
    assert deaths.gone(over, 212.0) is None


def test_one_that_was_killed_when_its_grace_was_over(deaths):
    over = replace(POD, is_leaving=True, is_running=False, cost=-1, ended=ended(1, 137))
    told = deaths.see(over, 210.0)
    assert (told.cause, told.unit.stopping) == (Cause.KILLED, True)


def test_one_that_nobody_had_told_to_go(deaths):
    assert not deaths.see(replace(POD, ended=ended(1, 137)), 200.0).unit.stopping
    over = replace(POD, phase="Failed", is_running=False, disruption="Evicted: low memory")
    assert not deaths.see(over, 210.0).unit.stopping


def test_one_that_was_told_to_go_before_it_had_begun(deaths):
    over = replace(POD, is_leaving=True, is_running=False, ended=ended(1, 143))
    told = deaths.see(over, 210.0)
    assert (told.cause, told.reason) == (Cause.ASKED, "has ended")


@pytest.mark.parametrize(
    ("last", "cause", "words"),
    [
        ({"cost": -1}, Cause.ASKED, "has ended"),
        ({}, Cause.KILLED, "was deleted by somebody else"),
        ({"cost": -1, "disruption": "DeletionByPodGC"}, Cause.KILLED, "is gone: DeletionByPodGC"),
        ({"is_running": False}, Cause.ASKED, "was taken away before it began"),
        # It died before in the same pod, which was told; how the last one ended is not known.
        ({"ended": ended(7, 139), "cost": -1}, Cause.ASKED, "has ended"),
    ],
)
def test_one_that_went_without_a_word(last, cause, words):
    deaths = Deaths()
    pod = replace(POD, **last)
    deaths.see(pod, 100.0)
    told = deaths.gone(replace(pod, is_leaving=True), 200.0)
    assert (told.cause, told.reason, told.is_gone, told.in_flight) == (cause, words, True, ())


def test_one_that_the_cluster_ended_says_why(deaths):
    over = replace(
        POD, phase="Failed", is_running=False, disruption="Evicted: low memory", ended=ended(1, 143)
    )
    told = deaths.see(over, 200.0)
    assert (told.cause, told.reason) == (Cause.KILLED, "was killed by signal 15: Evicted: low memory")
