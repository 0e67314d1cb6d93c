"""Who reads which partition: sticky, balanced, and the lanes of one partition number together.

Lanes stay together so that a worker serves `priority` before `default` for the same share of the traffic.
Sticky, because a partition that stays needs no hand-over.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """What a member says when it joins: the partitions it held, and in which generation."""

    generation: int = -1
    partitions: frozenset[int] = frozenset()


def assign(members: Mapping[str, Owner], partitions: int) -> dict[str, frozenset[int]]:
    """Give each of `partitions` partition numbers to one member; loads differ by at most one.

    A partition stays with the member that held it in the latest generation, as far as balance allows.
    The same input gives the same answer whatever the order of members.
    """
    if not members:
        return {}
    small, extra = divmod(partitions, len(members))
    # Members that hold most keep most, so that the extra partition moves no one; the latest word counts.
    order = sorted(
        members, key=lambda name: (-len(members[name].partitions), -members[name].generation, name)
    )
    quota = {name: small + (rank < extra) for rank, name in enumerate(order)}
    taken: dict[int, str] = {}
    given: dict[str, set[int]] = {name: set() for name in order}
    for name in sorted(members, key=lambda name: (-members[name].generation, name)):
        for number in sorted(members[name].partitions):
            if number < partitions and number not in taken and len(given[name]) < quota[name]:
                taken[number] = name
                given[name].add(number)
    free = [number for number in range(partitions) if number not in taken]
    for name in order:
        while len(given[name]) < quota[name]:
            given[name].add(free.pop(0))
    return {name: frozenset(numbers) for name, numbers in given.items()}
