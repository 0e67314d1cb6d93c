"""Assignment: complete, balanced, sticky, and the same whatever the order."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.core.assignment import Owner, assign

members = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.builds(Owner, st.integers(-1, 5), st.frozensets(st.integers(0, 30), max_size=20)),
    min_size=1,
    max_size=8,
)


@given(members, st.integers(0, 24))
def test_every_partition_has_one_owner_and_loads_differ_by_at_most_one(members, partitions):
    shares = assign(members, partitions)
    assert sorted(n for share in shares.values() for n in share) == list(range(partitions))
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(members, st.integers(0, 24))
def test_the_order_of_members_does_not_matter(members, partitions):
    assert assign(members, partitions) == assign(dict(reversed(members.items())), partitions)


@given(st.integers(1, 6), st.integers(1, 24))
def test_nothing_moves_when_nobody_comes_or_goes(count, partitions):
    first = assign({f"m{i}": Owner() for i in range(count)}, partitions)
    again = assign({name: Owner(1, share) for name, share in first.items()}, partitions)
    assert again == first


def test_a_third_member_moves_only_its_own_share():
    two = {"a": Owner(1, frozenset({0, 1, 2})), "b": Owner(1, frozenset({3, 4, 5}))}
    shares = assign(two | {"c": Owner()}, 6)
    moved = sum(len(two[name].partitions - shares[name]) for name in two)
    assert moved == 2


def test_the_latest_generation_wins_a_dispute():
    shares = assign({"old": Owner(1, frozenset({0, 1})), "new": Owner(2, frozenset({0, 1}))}, 2)
    assert 0 in shares["new"]


def test_no_members_no_shares():
    assert assign({}, 4) == {}
