"""One of several processes acts: the one that owns the one partition of a topic.

Kafka's group protocol elects it, and moves the partition when it dies. Whoever begins to lead writes a record
to the topic; the record's offset is its epoch, higher than that of everyone before it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from headrace.contracts.errors import HeadraceError
from headrace.core.assignment import Owner
from headrace.core.ports import Outgoing, Publisher
from headrace.kafka.assignor import lane_assignor
from headrace.kafka.consumer import consumer
from headrace.settings import KafkaSettings

_log = logging.getLogger(__name__)

_SESSION_MS: Final = 6_000
"""As short as Kafka allows by default: who dies is followed by another after at most so long."""
_HEARTBEAT_MS: Final = 1_000
_POLL_MS: Final = 1_000
_CONFIRM_S: Final = 2.0
_RETRY_S: Final = 0.5


class Leadership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """A candidate. word: what tells of it, made then. epoch: None while another leads or nobody knows."""

    def __init__(
        self, settings: KafkaSettings, group: str, publisher: Publisher, word: Callable[[], Outgoing]
    ) -> None:
        self._settings = settings
        self._topic = word().topic
        self._group = group
        self._publisher = publisher
        self._word = word
        self._raw: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._latest = -1
        self._owns = False
        self._is_settled = False
        self.epoch: int | None = None
        self._turned = asyncio.Event()
        self.changed = asyncio.Event()
        """For whoever waits for it and clears it."""

    async def start(self) -> None:
        """Stand for election."""
        self._raw = await consumer(
            self._settings,
            "leadership",
            group=self._group,
            auto_offset_reset="latest",
            session_timeout_ms=_SESSION_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            partition_assignment_strategy=[lane_assignor(self._owned)],
            fetch_max_wait_ms=500,
        )
        self._raw.subscribe([self._topic], listener=self)
        self._tasks = [asyncio.create_task(self._poll()), asyncio.create_task(self._enthrone())]

    async def stop(self) -> None:
        """Step back; another may lead at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._raw is not None:
            raw, self._raw = self._raw, None
            await raw.stop()

    @property
    def may_lead(self) -> bool:
        """Whether no other leads: we do, or nobody knows yet."""
        return self._owns or not self._is_settled

    async def confirm(self) -> bool:
        """Whether we still lead: Kafka takes a commit from the owner only.

        A process that was stopped for a while learns here that another has taken over meanwhile.
        """
        if self.epoch is None:
            return False
        offsets = {TopicPartition(self._topic, 0): OffsetAndMetadata(0, "")}
        try:
            async with asyncio.timeout(_CONFIRM_S):
                await self._raw.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            _log.info("leadership is not confirmed: %r", error)
            return False
        return self.epoch is not None

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Whoever leads next is not known yet."""
        self.epoch, self._owns, self._is_settled = None, False, False
        self._turned.set()
        self.changed.set()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The partition is ours, or another's."""
        self._owns, self._is_settled = any(assigned), True
        self._turned.set()
        self.changed.set()

    async def _poll(self) -> None:
        """A member that never asks for records is taken for dead."""
        while True:
            try:
                await self._raw.getmany(timeout_ms=_POLL_MS)
            except KafkaError as error:
                _log.warning("leadership: %r", error)
                await asyncio.sleep(_RETRY_S)

    async def _enthrone(self) -> None:
        """Tell that we lead; its offset is the epoch."""
        while True:
            await self._turned.wait()
            self._turned.clear()
            if not self._owns or self.epoch is not None:
                continue
            try:
                place = await (await self._publisher.send(self._word()))
            except HeadraceError as error:
                _log.warning("leadership not told: %s", error)
                await asyncio.sleep(_RETRY_S)
                self._turned.set()
                continue
            if self._turned.is_set():
                continue  # what was told then may have been of another time
            self.epoch = self._latest = place.offset
            _log.info("leading, epoch %d", place.offset)
            self.changed.set()

    def _owned(self) -> Owner:
        held = frozenset({0}) if self._latest >= 0 else frozenset()
        return Owner(self._latest, held)
