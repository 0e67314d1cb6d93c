"""The archiver: final results from Kafka into the database, in batches.

Every record ends in the archive or in `dead-letters`, and only then is it committed. While the database or
the broker does not serve, the archiver waits with the batch in hand. Records may come twice; the archive
keeps the first final result of each request.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from headrace.contracts.errors import BodyTooLarge, HeadraceError, InvalidRequest, Unavailable
from headrace.contracts.topics import Topics
from headrace.core.archive import Archive, FinalResult, final_result
from headrace.core.letters import letter, versions
from headrace.core.ports import Outgoing, Publisher, Record
from headrace.dispatcher.insisting import insist
from headrace.settings import DispatcherSettings

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_PURGE_INTERVAL_S: Final = 60.0


class Source(Protocol):
    """The records of `results`, as a member of a group."""

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        """The next records; empty after `timeout_s`."""
        ...

    async def commit(self) -> bool:
        """Commit all polled so far; False when they will come again."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the archiver works with."""

    source: Source
    archive: Archive
    publisher: Publisher
    topics: Topics
    settings: DispatcherSettings


class Archiver:
    """The acting shell round `core.archive`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._purge_due_s = time.monotonic() + _PURGE_INTERVAL_S

    async def run(self, stop: asyncio.Event) -> None:
        """Archive until `stop` is set; a batch that cannot be kept by then comes again after the restart."""
        parts = self._parts
        while not stop.is_set():
            records = await parts.source.poll(_POLL_S, parts.settings.archive_batch)
            if records:
                if not await insist(partial(self._archive, records), stop, "results"):
                    return
                if not await parts.source.commit():
                    _log.warning("the group has moved on; up to %d results come again", len(records))
            await self._purge()

    async def _archive(self, records: Sequence[Record]) -> None:
        rows: list[tuple[Record, FinalResult]] = []
        for record in records:
            try:
                rows.append((record, final_result(record, self._parts.settings.result_retention_s)))
            except InvalidRequest as error:
                await self._bury(record, error)
        try:
            await self._parts.archive.add_many([row for _, row in rows])
        except InvalidRequest:
            await self._archive_singly(rows)

    async def _archive_singly(self, rows: Sequence[tuple[Record, FinalResult]]) -> None:
        """Find the row that the database refuses; the others must not suffer for it."""
        for record, row in rows:
            try:
                await self._parts.archive.add_many([row])
            except InvalidRequest as error:
                await self._bury(record, error)

    async def _bury(self, record: Record, error: HeadraceError) -> None:
        _log.warning("record %s goes to dead-letters: %s", record.place, error)
        *longer, bare = versions(letter(self._parts.topics, record, error))
        for each in longer:
            with suppress(BodyTooLarge):
                await self._publish(each)
                return
        await self._publish(bare)

    async def _publish(self, record: Outgoing) -> None:
        receipt = await self._parts.publisher.send(record)
        await receipt

    async def _purge(self) -> None:
        if time.monotonic() < self._purge_due_s:
            return
        self._purge_due_s = time.monotonic() + _PURGE_INTERVAL_S
        try:
            removed = 0
            while count := await self._parts.archive.purge(time.time()):
                removed += count
        except Unavailable as error:
            _log.warning("expired results stay for now: %s", error)
        else:
            if removed:
                _log.info("%d expired results removed", removed)
