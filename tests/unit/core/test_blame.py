"""Who crashes the engine is found at its third crash; nobody else is ever given up."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.topics import Lane, Topics
from headrace.core.blame import GUILTY, blame, heard, said
from headrace.core.journal import InFlight
from headrace.core.ports import Place, Record
from headrace.core.suspects import Suspects

TOPICS = Topics()
TOPIC = TOPICS.requests("m", Lane.DEFAULT)


def in_flight(offsets, crashes=0):
    return [InFlight(Lane.DEFAULT, 0, offset, crashes) for offset in offsets]


def record(offset):
    return Record(Place(TOPIC, 0, offset), None, b"{}", {}, 0)


def groups(blamed):
    found = {}
    for each in blamed:
        found.setdefault(each.group, []).append(each.place.offset)
    return sorted(found.values())


def test_after_the_first_crash_in_groups_of_the_square_root():
    blamed = blame(TOPICS, "m", "w", in_flight(range(9)))
    assert groups(blamed) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert {each.crashes for each in blamed} == {1}
    assert groups(blame(TOPICS, "m", "w", in_flight([7]))) == [[7]]
    assert groups(blame(TOPICS, "m", "w", in_flight(range(10))))[0] == [0, 1, 2, 3]


def test_after_the_second_alone():
    blamed = blame(TOPICS, "m", "w", in_flight([4, 5], crashes=1) + in_flight([9], crashes=0))
    assert sorted((b.place.offset, b.crashes) for b in blamed) == [(4, 2), (5, 2), (9, 1)]
    assert groups(blamed) == [[4], [5], [9]]


def test_groups_of_two_workers_are_two():
    one, two = (blame(TOPICS, "m", worker, in_flight([0])) for worker in ("a", "b"))
    assert one[0].group != two[0].group


def test_an_obituary_says_it_all():
    blamed = blame(TOPICS, "m", "w", in_flight(range(5)))
    assert heard(said(blamed)) == blamed


def crash_until_quiet(requests, poison, slots):
    """One worker after another on one partition; returns crashes by request, the guilty and the served."""
    blames, guilty, served, crashes, workers = [], set(), set(), dict.fromkeys(range(requests), 0), 0
    while len(served) + len(guilty) < requests:
        workers += 1
        assert workers < 1000
        suspects = Suspects()
        suspects.learn(blames)
        waiting = [record(n) for n in range(requests) if n not in served | guilty]
        running = []
        while waiting or running or list_waiting(suspects):
            running += suspects.take(slots - len(running), len(running))
            while waiting and len(running) < slots and not suspects.wants_alone:
                each = waiting.pop(0)
                if suspects.crashes(each.place) >= GUILTY:
                    guilty.add(each.place.offset)
                elif not suspects.add(each):
                    running.append(each)
            offsets = [each.place.offset for each in running]
            if poison & set(offsets):
                now = [InFlight(Lane.DEFAULT, 0, n, suspects.crashes(Place(TOPIC, 0, n))) for n in offsets]
                blames += blame(TOPICS, "m", f"w{workers}", now)
                for n in offsets:
                    crashes[n] += 1
                break
            if running:  # the oldest is done
                done = running.pop(0)
                served.add(done.place.offset)
                suspects.done(done.place)
    return crashes, guilty, served


def list_waiting(suspects):
    return any(suspects._waiting.values())


@given(
    requests=st.integers(1, 60),
    slots=st.integers(1, 20),
    poison=st.sets(st.integers(0, 59), max_size=6),
)
def test_the_guilty_are_found_and_nobody_else(requests, slots, poison):
    poison = {n for n in poison if n < requests}
    crashes, guilty, served = crash_until_quiet(requests, poison, slots)
    assert guilty == poison
    assert served == set(range(requests)) - poison
    assert all(crashes[n] == GUILTY for n in poison)
    assert all(crashes[n] < GUILTY for n in served)
