"""Reading partitions without a group: replies, heartbeats, cancels, models."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.core.ports import Record
from headrace.kafka.consumer import consumer
from headrace.kafka.records import flatten
from headrace.settings import KafkaSettings

_READ_TO_END_S: Final = 30.0


class PartitionReader:
    """Reads the given partitions of each topic; None means all of them.

    at: where to begin; a number: with the latest so many records of each partition.
    Use as a context manager, or call `start` and `stop`. Fills `core.ports.Reader`.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Mapping[str, Sequence[int] | None],
        *,
        at: Literal["beginning", "end"] | int = "beginning",
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._at = at
        self._raw: Any = None
        self._ends: Any = None
        self._connecting = asyncio.Lock()
        self._partitions: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, at: Literal["beginning", "end"] | None = None) -> None:
        """Connect and seek; when it returns, every record written from now on will be read."""
        begin = at or self._at
        self._raw = await self._connect()
        for topic, numbers in self._topics.items():
            wanted = await self._all_of(topic) if numbers is None else numbers
            self._partitions += [TopicPartition(topic, number) for number in wanted]
        self._raw.assign(self._partitions)
        if isinstance(begin, int):
            ends = await self._raw.end_offsets(self._partitions)
            starts = await self._raw.beginning_offsets(self._partitions)
            for partition in self._partitions:
                self._raw.seek(partition, max(starts[partition], ends[partition] - begin))
        else:
            seek = self._raw.seek_to_end if begin == "end" else self._raw.seek_to_beginning
            await seek(*self._partitions)
        for partition in self._partitions:
            # Seeking is lazy: without this a record written meanwhile would be missed.
            await self._raw.position(partition)

    async def stop(self) -> None:
        """Close the connection."""
        for raw in (self._raw, self._ends):
            if raw is not None:
                await raw.stop()
        self._raw = self._ends = None

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """The next records; empty after `timeout_s`. While the broker is away there are just none."""
        try:
            return flatten(await self._raw.getmany(timeout_ms=int(timeout_s * 1000)))
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(min(timeout_s, 0.1))
            return []

    async def read_to_end(self) -> list[Record]:
        """Everything that is there now.

        Raises:
            TimeoutError: the broker took more than 30 s.
        """
        found: list[Record] = []
        async with asyncio.timeout(_READ_TO_END_S):
            ends = await self._raw.end_offsets(self._partitions)
            while await self._behind(ends):
                found += await self.poll(0.1)
        return found

    async def is_at_end(self) -> bool:
        """Whether everything that was written before the call has been polled; False when Kafka is away."""
        try:
            async with self._connecting:
                if self._ends is None:
                    # A connection of its own: on one, Kafka answers in order, and a fetch that waits for
                    # records would hold the answer back for half a second.
                    self._ends = await self._connect()
            return not await self._behind(await self._ends.end_offsets(self._partitions))
        except KafkaError:
            return False

    async def _behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            if await self._raw.position(partition) < end:
                return True
        return False

    async def _all_of(self, topic: str) -> Sequence[int]:
        # The public call knows only topics that this client already follows.
        return sorted(await self._raw._client._wait_on_metadata(topic))

    async def _connect(self) -> Any:
        return await consumer(self._settings, "reader", fetch_max_wait_ms=500)
