"""Which request crashes its engine? Pure.

A crash names nobody: any request in flight may be its cause. So all of them are blamed once more, and run
again in ever smaller company: first in groups of about the square root of their number, each group apart from
the others; then alone on their worker. Who crashes a worker alone is found guilty. The cause is found at its
third crash, and nobody else ever has more than two.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from headrace.contracts.topics import Topics
from headrace.core.journal import InFlight
from headrace.core.ports import Place

ALONE: Final = 2
"""After so many crashes a request runs alone on its worker."""
GUILTY: Final = 3
"""After so many it runs no more."""


class Blame(NamedTuple):
    """What a request is blamed for. `group`: the suspects that it may run together with."""

    place: Place
    crashes: int
    group: str


def blame(topics: Topics, model_slug: str, worker: str, in_flight: Sequence[InFlight]) -> tuple[Blame, ...]:
    """Who is blamed for the crash of `worker`, and how they run from now on."""
    by_crashes: dict[int, list[Place]] = {}
    for lane, partition, offset, crashes in in_flight:
        place = Place(topics.requests(model_slug, lane), partition, offset)
        by_crashes.setdefault(crashes + 1, []).append(place)
    return tuple(
        Blame(place, crashes, f"{worker}.{crashes}.{n // _group_size(crashes, len(places))}")
        for crashes, places in by_crashes.items()
        for n, place in enumerate(sorted(places))
    )


def said(blamed: Sequence[Blame]) -> tuple[tuple[str, int, int, int, str], ...]:
    """As an obituary says it."""
    return tuple((*place, crashes, group) for place, crashes, group in blamed)


def heard(blamed: Sequence[tuple[str, int, int, int, str]]) -> tuple[Blame, ...]:
    """What an obituary says."""
    return tuple(
        Blame(Place(topic, partition, offset), crashes, group)
        for topic, partition, offset, crashes, group in blamed
    )


def _group_size(crashes: int, suspects: int) -> int:
    return 1 if crashes >= ALONE else math.isqrt(suspects - 1) + 1
