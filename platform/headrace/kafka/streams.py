"""The topic `streams`, read from wherever its readers want."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.contracts.errors import Unavailable
from headrace.contracts.topics import STREAM_PARTITIONS
from headrace.core.ports import Record
from headrace.core.streams import Span
from headrace.kafka.consumer import consumer
from headrace.kafka.records import flatten
from headrace.settings import KafkaSettings

_TIMEOUT_MS: Final = 5_000


class StreamReader:
    """Fills `core.streams.StreamLog`. All partitions are assigned; those that nobody wants are paused."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        topic = settings.topics.streams
        self._parts = [TopicPartition(topic, number) for number in range(STREAM_PARTITIONS)]
        self._raw: Any = None
        self._asking: Any = None

    async def __aenter__(self) -> Self:
        self._raw = await self._connect()
        # A connection of its own for questions: on one, Kafka answers in order, and a fetch that waits for
        # records would hold every answer back.
        self._asking = await self._connect()
        self._raw.assign(self._parts)
        self._raw.pause(*self._parts)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._raw.stop()
        await self._asking.stop()

    async def span(self, partition: int, since_s: float) -> Span:
        """Offsets of the first record since a time, and of the next to be written.

        Raises:
            Unavailable: Kafka does not say.
        """
        part = self._parts[partition]
        try:
            # In this order: with no record of that time yet, reading starts at the end that was, so that
            # nothing that is written meanwhile lies before the start.
            end = await self.end(partition)
            first = (await self._asking.offsets_for_times({part: max(0, int(since_s * 1000))}))[part]
        except KafkaError as error:
            raise _silent(error) from None
        return Span(end if first is None else first.offset, end)

    async def end(self, partition: int) -> int:
        """The offset of the next record to be written.

        Raises:
            Unavailable: Kafka does not say.
        """
        part = self._parts[partition]
        try:
            return int((await self._asking.end_offsets([part]))[part])
        except KafkaError as error:
            raise _silent(error) from None

    def read_from(self, partition: int, offset: int) -> None:
        """Let `poll` give this partition, from there on."""
        self._raw.seek(self._parts[partition], offset)
        self._raw.resume(self._parts[partition])

    def leave(self, partition: int) -> None:
        """Let `poll` give it no more."""
        self._raw.pause(self._parts[partition])

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """The next records; empty after `timeout_s`, and while Kafka is away."""
        try:
            return flatten(await self._raw.getmany(timeout_ms=int(timeout_s * 1000)))
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(timeout_s)
            return []

    async def _connect(self) -> Any:
        return await consumer(
            self._settings,
            "streams",
            isolation_level="read_uncommitted",
            request_timeout_ms=_TIMEOUT_MS,
            # Resumed partitions wait for the long poll of the others.
            fetch_max_wait_ms=100,
        )


def _silent(error: KafkaError) -> Unavailable:
    return Unavailable(f"Kafka does not say where the stream is: {error!r}")
