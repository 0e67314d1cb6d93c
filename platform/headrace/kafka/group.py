"""Reading topics as a member of a consumer group, in order: for services that finish what they polled."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from headrace.core.ports import Record
from headrace.kafka.consumer import consumer
from headrace.kafka.records import flatten
from headrace.settings import KafkaSettings


class GroupReader:
    """Polls, and commits all that was polled. At least once: after a rebalance records may come again."""

    def __init__(self, settings: KafkaSettings, group: str, topics: Iterable[str]) -> None:
        self._settings = settings
        self._group = group
        self._topics = frozenset(topics)
        self._raw: Any = None

    async def start(self) -> None:
        """Join the group; waits for Kafka as long as it takes."""
        self._raw = await consumer(
            self._settings,
            "group",
            *self._topics,
            group=self._group,
            # Who takes over from one that was killed waits so long; Kafka allows no less by default.
            session_timeout_ms=6_000,
            heartbeat_interval_ms=2_000,
            fetch_max_wait_ms=500,
        )

    def follow(self, topics: Iterable[str]) -> None:
        """Read these topics from now on."""
        wanted = frozenset(topics)
        if wanted != self._topics:
            self._topics = wanted
            if wanted:
                self._raw.subscribe(sorted(wanted))
            else:
                self._raw.unsubscribe()

    async def stop(self) -> None:
        """Leave the group."""
        if self._raw is not None:
            raw, self._raw = self._raw, None
            await raw.stop()

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        """The next records; empty after `timeout_s`."""
        if not self._topics:
            await asyncio.sleep(timeout_s)
            return []
        try:
            polled = await self._raw.getmany(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(min(timeout_s, 0.1))
            return []
        return flatten(polled)

    async def commit(self) -> bool:
        """Commit all polled so far; False when the group has moved on, and the records will come again."""
        try:
            async with asyncio.timeout(10):
                await self._raw.commit()
        except (CommitFailedError, IllegalStateError, TimeoutError):
            return False
        return True
