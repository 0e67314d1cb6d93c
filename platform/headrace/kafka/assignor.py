"""`core.assignment` as an aiokafka assignor."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from headrace.core.assignment import Owner, assign


def lane_assignor(owned: Callable[[], Owner]) -> type[AbstractPartitionAssignor]:
    """Make the assignor of one consumer; `owned` says what it holds now.

    aiokafka keeps an assignor's state on the class, so each consumer gets a class of its own: two that
    share one corrupt each other (measured: going from two to three members moved six of six partitions
    instead of two).
    """

    class LaneAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka ships no types
        name = "headrace-lanes"

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            mine = owned()
            user_data = orjson.dumps([mine.generation, sorted(mine.partitions)])
            return ConsumerProtocolMemberMetadata(0, list(topics), user_data)

        @classmethod
        def assign(
            cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            topics = sorted({topic for member in members.values() for topic in member.subscription})
            counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
            owners = {name: _owner(member.user_data) for name, member in members.items()}
            shares = assign(owners, max(counts.values(), default=0))
            return {
                name: ConsumerProtocolMemberAssignment(0, _by_topic(counts, share), b"")
                for name, share in shares.items()
            }

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            """Nothing is kept here: `owned` asks the consumer."""

    return LaneAssignor


def _by_topic(counts: Mapping[str, int], share: frozenset[int]) -> list[tuple[str, list[int]]]:
    listed = ((topic, sorted(n for n in share if n < count)) for topic, count in counts.items())
    return [(topic, numbers) for topic, numbers in listed if numbers]


def _owner(user_data: bytes | None) -> Owner:
    if not user_data:
        return Owner()
    generation, partitions = orjson.loads(user_data)
    return Owner(generation, frozenset(partitions))
