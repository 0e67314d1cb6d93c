"""A group without members: read its topics and commit for it, without joining."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from headrace.contracts.errors import Unavailable
from headrace.core.offsets import Commit
from headrace.core.ports import Record
from headrace.kafka.consumer import consumer
from headrace.kafka.records import flatten
from headrace.settings import KafkaSettings

Part = tuple[str, int]


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise Unavailable(f"Kafka does not answer: {error!r}") from None


class VacantGroup:
    """Use as a context manager. Kafka refuses commits from outside as soon as a group has members."""

    def __init__(self, settings: KafkaSettings, group: str, topics: Mapping[str, int]) -> None:
        self._settings = settings
        self._group = group
        self._parts = [TopicPartition(topic, n) for topic, count in topics.items() for n in range(count)]
        self._raw: Any = None

    async def __aenter__(self) -> Self:
        self._raw = await consumer(self._settings, "caretaker", group=self._group)
        self._raw.assign(self._parts)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._raw.stop()

    async def commits(self) -> dict[Part, Commit | None]:
        """What is committed, by partition.

        Raises:
            Unavailable: Kafka does not say.
        """
        with _telling():
            # Public `committed()` drops the metadata.
            found = await self._raw._coordinator.fetch_committed_offsets(self._parts)
        return {
            tuple(tp): Commit(found[tp].offset, found[tp].metadata)
            if tp in found and found[tp].offset >= 0
            else None
            for tp in self._parts
        }

    async def read(self, positions: Mapping[Part, int]) -> AsyncIterator[Sequence[Record]]:
        """What lies from the positions to the ends of their partitions, piece by piece.

        Raises:
            Unavailable: Kafka does not answer.
        """
        with _telling():
            ends = await self._raw.end_offsets([TopicPartition(*part) for part in positions])
            behind = {tp: end for tp, end in ends.items() if positions[tuple(tp)] < end}
            for tp in behind:
                self._raw.seek(tp, positions[tuple(tp)])
            while behind:
                yield flatten(await self._raw.getmany(*behind, timeout_ms=500, max_records=500))
                behind = {tp: end for tp, end in behind.items() if await self._raw.position(tp) < end}

    async def commit(self, commits: Mapping[Part, Commit]) -> bool:
        """Commit; False when the group has members, or Kafka does not answer."""
        offsets = {
            TopicPartition(*part): OffsetAndMetadata(each.offset, each.metadata)
            for part, each in commits.items()
        }
        try:
            async with asyncio.timeout(5):
                await self._raw.commit(offsets)
        except (KafkaError, TimeoutError):
            return False
        return True
