"""Single records by their place, and all of a topic without keeping them in memory."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.contracts.errors import Unavailable
from headrace.core.ports import Place, Record
from headrace.kafka.consumer import consumer
from headrace.kafka.reader import PartitionReader
from headrace.kafka.records import record
from headrace.settings import KafkaSettings

_ANSWER_S: Final = 10.0
_POLL_S: Final = 0.2
_SILENCE_S: Final = 30.0


class Lookup:
    """Fetches records by topic, partition and offset; use as a context manager."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._raw: Any = None

    async def __aenter__(self) -> Self:
        self._raw = await consumer(self._settings, "lookup")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._raw.stop()

    async def at(self, place: Place) -> Record | None:
        """The record there; None when there is none (any more). The topic must exist.

        Raises:
            Unavailable: Kafka does not answer.
        """
        partition = TopicPartition(place.topic, place.partition)
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._at(partition, place.offset)
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"Kafka did not give the record at {place}: {error!r}") from None

    async def _at(self, partition: TopicPartition, offset: int) -> Record | None:
        begin = (await self._raw.beginning_offsets([partition]))[partition]
        end = (await self._raw.end_offsets([partition]))[partition]
        if not begin <= offset < end:
            return None
        self._raw.assign([partition])
        self._raw.seek(partition, offset)
        # Nothing may be left there though it lies between the ends: the next record then says so, or,
        # when there is no next one either, the position that has moved on.
        while await self._raw.position(partition) <= offset:
            for batch in (await self._raw.getmany(timeout_ms=int(_POLL_S * 1000), max_records=1)).values():
                return record(batch[0]) if batch[0].offset == offset else None
        return None


async def every(settings: KafkaSettings, topic: str) -> AsyncIterator[Record]:
    """Every record that is in the topic now, each partition in order.

    Raises:
        Unavailable: Kafka says nothing for half a minute, or refuses.
    """
    loop = asyncio.get_running_loop()
    try:
        async with PartitionReader(settings, {topic: None}) as reader:
            heard_s = loop.time()
            while not await reader.is_at_end():
                records = await reader.poll(_POLL_S)
                if records:
                    heard_s = loop.time()
                elif loop.time() - heard_s > _SILENCE_S:
                    raise Unavailable(f"Kafka gives no records of topic {topic}; try again in a moment")
                for each in records:
                    yield each
    except KafkaError as error:
        raise Unavailable(f"Kafka gives no records of topic {topic}: {error!r}") from None
