"""Requests that wait for another attempt, counted by model. Pure.

Fed with what lies on the retry topics, and with how far the dispatcher has put it back.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

from headrace.contracts import headers as h
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.topics import Topics
from headrace.core.ports import Record
from headrace.core.retries import due_at_s

Part = tuple[str, int]


class _Waiting(NamedTuple):
    offset: int
    slug: str
    due_s: float


class Returns:
    """All models' requests that come back. A record that says no model or no time is the dispatcher's."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._waiting: defaultdict[Part, deque[_Waiting]] = defaultdict(deque)

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def take(self, record: Record) -> None:
        """One more waits; those of a partition in the order of their offsets."""
        owner = self._topics.parse_requests(record.headers.get(h.ORIGIN_TOPIC, b"").decode(errors="replace"))
        try:
            due_s = due_at_s(record)
        except InvalidRequest:
            return
        if owner is not None:
            place = record.place
            self._waiting[place.topic, place.partition].append(_Waiting(place.offset, owner[0], due_s))

    def committed(self, offsets: Mapping[Part, int]) -> None:
        """What lies below has gone back to its lane, or has ended."""
        for part, offset in offsets.items():
            waiting = self._waiting[part]
            while waiting and waiting[0].offset < offset:
                waiting.popleft()

    def due(self) -> dict[str, list[float]]:
        """Unix times at which requests of each model come back, by slug; the soonest first."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for part in self._waiting.values():
            for each in part:
                found[each.slug].append(each.due_s)
        return {slug: sorted(times) for slug, times in found.items()}
