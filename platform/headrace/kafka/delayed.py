"""Reading topics whose records wait until they are due, as a member of a group.

The head of a partition that is not due stops that partition alone: it is paused and goes back to the head, so
that what waits, waits in Kafka. Nothing at or beyond a waiting head is committed.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError

from headrace.core.ports import Record
from headrace.kafka.group import GroupReader
from headrace.kafka.records import record
from headrace.settings import KafkaSettings


class DelayedReader(GroupReader):
    """A `GroupReader` that hands out only what is due. `due_s`: when a record is, in Unix seconds."""

    def __init__(
        self, settings: KafkaSettings, group: str, topics: Sequence[str], due_s: Callable[[Record], float]
    ) -> None:
        super().__init__(settings, group, topics)
        self._due_s = due_s
        self._waiting: dict[Any, float] = {}

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        """The next records that are due; empty after `timeout_s`."""
        now_s = time.time()
        self._resume(now_s)
        soonest_s = min(self._waiting.values(), default=now_s + timeout_s)
        wait_s = max(0.0, min(timeout_s, soonest_s - now_s))
        try:
            polled = await self._raw.getmany(timeout_ms=int(wait_s * 1000), max_records=max_records)
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(min(timeout_s, 0.1))
            return []
        now_s = time.time()
        return [due for tp, batch in polled.items() for due in self._until_not_due(tp, batch, now_s)]

    def _until_not_due(self, tp: Any, batch: Sequence[Any], now_s: float) -> list[Record]:
        due: list[Record] = []
        for raw in batch:
            each = record(raw)
            due_s = self._due_s(each)
            if due_s > now_s:
                try:
                    self._raw.seek(tp, raw.offset)
                    self._raw.pause(tp)
                except IllegalStateError:
                    return []  # lost meanwhile; its new owner reads it
                self._waiting[tp] = due_s
                break
            due.append(each)
        return due

    def _resume(self, now_s: float) -> None:
        """Go on where the head is due. A rebalance forgets pauses, and goes back to what is committed."""
        paused = self._raw.paused()
        self._waiting = {tp: due_s for tp, due_s in self._waiting.items() if tp in paused}
        for tp in [tp for tp, due_s in self._waiting.items() if due_s <= now_s]:
            del self._waiting[tp]
            self._raw.resume(tp)
