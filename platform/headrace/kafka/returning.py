"""The retry topics as the scaler reads them: what waits there, and how far the dispatcher has put it back."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.contracts.errors import Unavailable
from headrace.contracts.topics import RETRY_DELAYS_S
from headrace.core.ports import Record
from headrace.core.returns import Part
from headrace.kafka.consumer import consumer
from headrace.kafka.records import flatten
from headrace.settings import KafkaSettings

RETRIES: Final = "retries"
"""The dispatcher's group, behind the prefix of topics."""


class ReturningReader:
    """Use as a context manager. Reads beside the group, from its commits on; never joins, never commits."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._raw: Any = None
        self._parts: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        self._raw = await consumer(
            self._settings,
            "returning",
            group=f"{self._settings.topic_prefix}{RETRIES}",
            fetch_max_wait_ms=500,
            fetch_max_bytes=4 * 2**20,
            max_partition_fetch_bytes=2**20,
        )
        for delay in RETRY_DELAYS_S:
            topic = self._settings.topics.retries(delay)
            # The public call knows only topics that this client already follows.
            numbers = sorted(await self._raw._client._wait_on_metadata(topic))
            self._parts += [TopicPartition(topic, number) for number in numbers]
        self._raw.assign(self._parts)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._raw.stop()

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """The next records; empty after `timeout_s`.

        Raises:
            Unavailable: Kafka does not answer.
        """
        try:
            return flatten(await self._raw.getmany(timeout_ms=int(timeout_s * 1000)))
        except KafkaError as error:
            raise Unavailable(f"Kafka does not hand out what is to be tried again: {error!r}") from None

    async def commits(self) -> dict[Part, int]:
        """What the dispatcher has put back or ended: all below, by partition.

        Raises:
            Unavailable: Kafka does not say.
        """
        try:
            found = await self._raw._coordinator.fetch_committed_offsets(self._parts)
        except KafkaError as error:
            raise Unavailable(f"Kafka does not say what was put back: {error!r}") from None
        return {(tp.topic, tp.partition): each.offset for tp, each in found.items() if each.offset >= 0}
