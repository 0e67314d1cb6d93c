"""One group of suspects at a time; who must be alone is alone; the others go on."""

from headrace.core.blame import Blame
from headrace.core.ports import Place, Record
from headrace.core.suspects import Suspects


def place(offset):
    return Place("t", 0, offset)


def record(offset):
    return Record(place(offset), None, b"", {}, 0)


def offsets(records):
    return [each.place.offset for each in records]


def waiting(*blamed):
    suspects = Suspects()
    suspects.learn(Blame(place(offset), crashes, group) for offset, crashes, group in blamed)
    for offset, _, _ in blamed:
        assert suspects.add(record(offset))
    return suspects


def test_nobody_is_blamed():
    suspects = Suspects()
    assert not suspects
    assert not suspects.add(record(1))
    assert not suspects.wants_alone
    assert suspects.take(4, 0) == []


def test_one_group_at_a_time_beside_the_others():
    suspects = waiting((0, 1, "a"), (1, 1, "b"), (2, 1, "a"))
    assert not suspects.wants_alone
    assert offsets(suspects.take(4, 3)) == [0, 2]
    assert suspects.take(4, 5) == []
    suspects.done(place(0))
    assert suspects.take(4, 4) == [], "one of the group runs on"
    suspects.done(place(2))
    assert offsets(suspects.take(4, 3)) == [1]


def test_a_group_larger_than_the_slots_goes_on_with_the_rest():
    suspects = waiting((0, 1, "a"), (1, 1, "a"), (2, 1, "a"), (9, 1, "b"))
    assert offsets(suspects.take(2, 0)) == [0, 1]
    suspects.done(place(0))
    suspects.done(place(1))
    assert offsets(suspects.take(2, 0)) == [2]


def test_alone_is_alone_and_comes_last():
    suspects = waiting((0, 2, "x"), (1, 1, "a"))
    assert offsets(suspects.take(4, 2)) == [1]
    suspects.done(place(1))
    assert suspects.wants_alone
    assert suspects.take(4, 2) == [], "others run still"
    assert offsets(suspects.take(4, 0)) == [0]
    assert suspects.wants_alone, "nothing begins beside it"
    suspects.done(place(0))
    assert not suspects.wants_alone
    assert not suspects


def test_cleared_when_done_and_the_highest_count_is_the_latest_word():
    suspects = Suspects()
    suspects.learn([Blame(place(0), 2, "new")])
    suspects.learn([Blame(place(0), 1, "old")])
    assert suspects.crashes(place(0)) == 2
    suspects.done(place(0))
    assert suspects.crashes(place(0)) == 0


def test_those_that_wait_are_given_back():
    suspects = waiting((0, 1, "a"), (1, 2, "b"))
    assert sorted(offsets(suspects.drain())) == [0, 1]
    assert list(suspects.drain()) == []
