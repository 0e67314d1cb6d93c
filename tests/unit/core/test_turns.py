"""Who has a worker next, where there are fewer than models."""

from collections import Counter

from headrace.core.planning import Share, shared
from headrace.core.turns import Turn


def played(wanted, most, seconds, cold_start_s=6.0):
    """Who has workers in each second."""
    turns, held = dict.fromkeys(wanted, Turn()), []
    for now_s in range(seconds):
        shares = {
            name: Share(0, number, turn_s=turns[name].at_s(cold_start_s, now_s))
            for name, number in wanted.items()
        }
        given = shared(shares, most)
        turns = {name: turns[name].told(wanted[name], given[name], now_s) for name in wanted}
        held.append(given)
    return held


def test_each_has_its_turn_for_as_long_as_the_others():
    held = played({"a": 1, "b": 3, "c": 1}, 1, 900)
    names = ["".join(name for name in given if given[name]) for given in held]
    assert Counter(names) == {"a": 300, "b": 300, "c": 300}
    assert names[:181] == ["a"] * 60 + ["b"] * 60 + ["c"] * 60 + ["a"]


def test_slow_starts_make_long_turns():
    names = [max(given, key=given.get) for given in played({"a": 1, "b": 1}, 1, 700, cold_start_s=30.0)]
    assert names == ["a"] * 300 + ["b"] * 300 + ["a"] * 100


def test_where_each_has_one_nobody_loses_it():
    held = played({"a": 2, "b": 2}, 3, 500)
    assert all(given == {"a": 2, "b": 1} for given in held)


def test_who_was_alone_makes_place_at_once_after_a_while():
    alone = Turn()
    for now_s in range(500):
        alone = alone.told(1, 1, now_s)
    new = Turn().told(1, 0, 500.0)
    assert alone.at_s(6.0, 501.0) > new.at_s(6.0, 501.0)
    assert Turn().told(1, 1, 499.0).at_s(6.0, 501.0) < new.at_s(6.0, 501.0)


def test_small_models_that_come_and_go_leave_a_large_one_its_turn():
    turns, served = dict.fromkeys(("large", "one", "two"), Turn()), []
    for now_s in range(3600):
        # Each has work for 40 of 60 seconds, so that one of the two always has a turn that has just begun.
        wanted = {"large": 1, "one": now_s % 60 < 40, "two": (now_s + 30) % 60 < 40}
        shares = {
            name: Share(
                0, int(number), 4 if name == "large" else 1, False, turn.at_s(6.0, now_s), turn.has_some
            )
            for (name, number), turn in zip(wanted.items(), turns.values(), strict=True)
        }
        given = shared(shares, None, 4)
        turns = {name: turn.told(int(wanted[name]), given[name], now_s) for name, turn in turns.items()}
        served.append(given["large"])
    assert sum(served) > 1200


def test_who_wants_nothing_has_no_place():
    assert Turn(3.0, has_some=True).told(0, 0, 9.0) == Turn()


def test_a_clock_that_is_set_back_keeps_nobody():
    later = Turn(1000.0, has_some=True).told(1, 1, 10.0)
    assert later == Turn(10.0, has_some=True)
