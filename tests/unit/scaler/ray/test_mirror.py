"""What the scaler makes of the ledger's words."""

import pytest

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Cause, Exit, Unit
from headrace.scaler.actuators.ray import mirror as module
from headrace.scaler.actuators.ray.messages import Numbered, Seen, State
from headrace.scaler.actuators.ray.mirror import Mirror

ONE, TWO = Unit("w-1", "chat", "v1", 100.0), Unit("w-2", "chat", "v1", 100.0)


def ended(number: int, unit: Unit) -> Numbered:
    return Numbered(number, Exit(unit, Cause.FAILED, "ended with exit code 1", 101.0))


def test_nothing_is_known_before_the_first_word_and_after_the_last():
    mirror = Mirror()
    with pytest.raises(Unavailable, match="said nothing yet"):
        mirror.units()
    assert mirror.reflect(State(Seen("a", 1), (ONE,), ()))
    assert mirror.units() == {"w-1": ONE}
    mirror.lose("the cluster was lost")
    with pytest.raises(Unavailable, match="the cluster was lost"):
        mirror.units()
    assert mirror.reflect(State(Seen("a", 1), (ONE,), ())), "that it is known again is news"


def test_a_silent_ledger_is_not_believed(monkeypatch):
    mirror = Mirror()
    mirror.reflect(State(Seen("a", 1), (ONE,), ()))
    now_s = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s + 11)
    with pytest.raises(Unavailable, match="said nothing for 11 s"):
        mirror.units()


def test_a_sign_of_life_is_no_news():
    mirror = Mirror()
    assert mirror.reflect(State(Seen("a", 1), (ONE,), ()))
    assert not mirror.reflect(State(Seen("a", 1), (ONE,), ()))
    assert mirror.reflect(State(Seen("a", 2), (ONE, TWO), ()))


def test_a_state_that_was_overtaken_takes_nothing_back():
    mirror = Mirror()
    mirror.reflect(State(Seen("a", 5), (ONE, TWO), ()))
    assert not mirror.reflect(State(Seen("a", 4), (ONE,), ()))
    assert set(mirror.units()) == {"w-1", "w-2"}
    assert mirror.decided == Seen("a", 5)


def test_an_end_is_given_once_and_is_told_with_the_next_call():
    mirror = Mirror()
    mirror.reflect(State(Seen("a", 2), (), (ended(1, ONE),)))
    told, (exit_,) = mirror.exits()
    assert (told, exit_.unit) == (0, ONE)
    mirror.reflect(State(Seen("a", 3), (), (ended(1, ONE), ended(2, TWO))))
    told, (exit_,) = mirror.exits()
    assert (told, exit_.unit) == (1, TWO)
    mirror.reflect(State(Seen("a", 4), (), (ended(2, TWO),)))
    assert mirror.exits() == (2, [])
    mirror.reflect(State(Seen("a", 5), (), ()))
    assert mirror.exits() == (0, [])


def test_who_is_missing_from_a_new_ledger_was_lost():
    mirror = Mirror()
    three = Unit("w-3", "chat", "v1", 100.0)
    mirror.reflect(State(Seen("a", 7), (ONE, TWO, three), ()))
    mirror.reflect(State(Seen("b", 1), (TWO,), (ended(1, three),)))
    _, found = mirror.exits()
    assert [(each.unit, each.cause) for each in found] == [(ONE, Cause.KILLED), (three, Cause.FAILED)]
    assert mirror.exits()[1] == []


def test_an_end_that_only_the_ledger_before_knew_is_told():
    mirror = Mirror()
    mirror.reflect(State(Seen("a", 7), (), (ended(1, ONE),)))
    mirror.exits()
    mirror.reflect(State(Seen("a", 8), (), (ended(1, ONE), ended(2, TWO))))
    mirror.reflect(State(Seen("b", 1), (), ()))
    (found,) = mirror.exits()[1]
    assert (found.unit, found.cause) == (TWO, Cause.FAILED)
    assert mirror.exits()[1] == []


def test_decisions_rest_on_what_was_shown_last():
    mirror = Mirror()
    mirror.reflect(State(Seen("a", 1), (), ()))
    mirror.units()
    mirror.reflect(State(Seen("a", 2), (ONE,), ()))
    assert mirror.decided == Seen("a", 1)
    mirror.units()
    assert mirror.decided == Seen("a", 2)


def test_why_one_waits_is_logged_once(caplog):
    mirror = Mirror()
    for version, note in enumerate(("", "waits for 1 GPU (0 of 4 free)", "waits for 1 GPU (0 of 6 free)")):
        mirror.reflect(State(Seen("a", version), (Unit("w-1", "chat", "v1", 1.0, note=note),), ()))
    assert [record.getMessage() for record in caplog.records] == [
        "worker w-1 of chat cannot start yet: waits for 1 GPU (0 of 4 free)"
    ]
