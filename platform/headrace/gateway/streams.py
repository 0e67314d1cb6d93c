"""Readers of streams that nobody holds a connection for: any gateway reads any stream, from its beginning.

One reader of Kafka serves all who look on here. Whoever comes late makes it go back; the others know what
they have had.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts.topics import stream_partition
from headrace.core.ports import Record
from headrace.core.streams import Span, StreamLog

_POLL_S: Final = 0.2
_EARLIER_S: Final = 60.0
"""Clocks of machines differ, and a record's time may be its producer's."""


class Viewer:
    """Who looks at one stream."""

    def __init__(self, key: bytes, span: Span) -> None:
        self.key = key
        self.partition = stream_partition(key)
        self._next = span.start
        self._end = span.end
        self._ready: list[Record] = []
        self._wake = asyncio.Event()

    @property
    def has_caught_up(self) -> bool:
        """Whether all was given out that was there when it began to look, or was extended."""
        return not self._ready and self._next >= self._end

    async def next(self, timeout_s: float) -> Sequence[Record]:
        """Records of the stream, in order; none after `timeout_s`."""
        if not self._ready:
            self._wake.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return []
        ready, self._ready = self._ready, []
        return ready

    def extend(self, end: int) -> None:
        """There is more to be read than was known."""
        self._end = max(self._end, end)

    def see(self, record: Record) -> None:
        """A record of the partition, whosever it is."""
        if record.place.offset < self._next:
            return
        self._next = record.place.offset + 1
        if record.headers.get(h.CAUSATION_ID) == self.key:
            self._ready.append(record)
            self._wake.set()


class Streams:
    """All viewers of this gateway."""

    def __init__(self, log: StreamLog) -> None:
        self._log = log
        self._viewers: dict[int, set[Viewer]] = defaultdict(set)
        self._at: dict[int, int] = {}
        self._moved: set[int] = set()
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def watch(self, request_id: str, since_s: float) -> AsyncIterator[Viewer]:
        """Look at the stream of a request that was made at `since_s`, from its beginning.

        Raises:
            Unavailable: Kafka does not serve.
        """
        key = request_id.encode()
        partition = stream_partition(key)
        span = await self._log.span(partition, since_s - _EARLIER_S)
        viewer = Viewer(key, span)
        if span.start < self._at.get(partition, span.start + 1):
            self._at[partition] = span.start
            self._moved.add(partition)
            self._log.read_from(partition, span.start)
        self._viewers[partition].add(viewer)
        self._wanted.set()
        try:
            yield viewer
        finally:
            self._viewers[partition].discard(viewer)
            if not self._viewers[partition]:
                del self._viewers[partition], self._at[partition]
                self._log.leave(partition)

    async def extend(self, viewer: Viewer) -> None:
        """Let a viewer have caught up only when it has read what is there by now.

        Raises:
            Unavailable: Kafka does not serve.
        """
        viewer.extend(await self._log.end(viewer.partition))

    async def follow(self) -> None:
        """Read for ever, while somebody looks."""
        while True:
            if not self._viewers:
                self._wanted.clear()
                await self._wanted.wait()
            self._moved.clear()
            records = await self._log.poll(_POLL_S)
            # What came from a partition that has been moved meanwhile may be from before or after.
            for partition in self._moved & self._at.keys():
                self._log.read_from(partition, self._at[partition])
            for record in records:
                if record.place.partition not in self._moved:
                    self._show(record)

    def _show(self, record: Record) -> None:
        partition = record.place.partition
        viewers = self._viewers.get(partition)
        if not viewers:
            return
        self._at[partition] = record.place.offset + 1
        for viewer in viewers:
            viewer.see(record)
