"""Who is next: lanes with a floor, tenants in turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.topics import Lane
from headrace.core.ports import Place, Record
from headrace.core.window import Window


def record(offset, tenant=None, value=b"{}"):
    return Record(Place("t", 0, offset), tenant, value, {}, 0)


def window():
    return Window(lambda record: record.key)


def test_higher_lanes_first():
    waiting = window()
    for n, lane in enumerate((Lane.FLEX, Lane.DEFAULT, Lane.PRIORITY)):
        waiting.add(lane, [record(n)])
    assert [r.place.offset for r in waiting.take(3)] == [2, 1, 0]
    assert waiting.take(1) == []


def test_lower_lanes_get_a_tenth_each():
    waiting = window()
    for lane in Lane:
        waiting.add(lane, [record(n, str(lane).encode()) for n in range(1000)])
    taken = Counter(r.key for r in waiting.take(300))
    assert 29 <= taken[b"flex"] <= 31
    assert 27 <= taken[b"default"] <= 31
    one_by_one = Counter(r.key for _ in range(300) for r in waiting.take(1))
    assert 29 <= one_by_one[b"flex"] <= 31


def test_a_flood_of_one_tenant_delays_another_by_one_turn():
    waiting = window()
    waiting.add(Lane.DEFAULT, [record(n, b"flood") for n in range(100)])
    waiting.add(Lane.DEFAULT, [record(100, b"small"), record(101, b"small")])
    first = [r.key for r in waiting.take(4)]
    assert first.count(b"small") == 2


def test_large_bodies_cost_more_turns():
    waiting = window()
    waiting.add(Lane.DEFAULT, [record(n, b"large", b"x" * 65_536) for n in range(40)])
    waiting.add(Lane.DEFAULT, [record(n, b"small") for n in range(40)])
    taken = Counter(r.key for r in waiting.take(24))
    assert taken == {b"small": 20, b"large": 4}


@given(
    st.lists(st.tuples(st.sampled_from(list(Lane)), st.sampled_from([None, b"a", b"b", b"c"])), max_size=60)
)
def test_each_is_taken_once_and_a_tenants_order_is_kept(added):
    waiting = window()
    for n, (lane, tenant) in enumerate(added):
        waiting.add(lane, [record(n, tenant)])
    taken = []
    while len(waiting):
        taken += waiting.take(7)
    assert sorted(r.place.offset for r in taken) == list(range(len(added)))
    for lane in Lane:
        for tenant in (None, b"a", b"b", b"c"):
            mine = [r.place.offset for r in taken if added[r.place.offset] == (lane, tenant)]
            assert mine == sorted(mine)


def test_what_is_drained_is_gone():
    waiting = window()
    waiting.add(Lane.FLEX, [record(1)])
    assert [r.place.offset for r in waiting.drain()] == [1]
    assert len(waiting) == 0
