"""From a batch's input file to the model's flex lane."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import orjson

from headrace.contracts import headers as h
from headrace.contracts import requests
from headrace.contracts.events import ModelDeployed
from headrace.contracts.identity import Claims, sign
from headrace.contracts.requests import RequestHead
from headrace.contracts.topics import Lane, Topics
from headrace.core.batches import Batch, BatchState
from headrace.core.lines import request_id
from headrace.core.ports import Outgoing, Receipt
from headrace.dispatcher.batch_input import input_file
from headrace.dispatcher.batch_parts import Parts, split

SOURCE: Final = "/dispatcher/batches"
_SAVE_LINES: Final = 2_000
"""After so many lines it is noted how far the queueing has come; a death repeats twice as many."""


class Records:
    """Makes the records of a batch: what all have in common, once."""

    def __init__(self, batch: Batch, deployed: ModelDeployed, topics: Topics, key: bytes | None) -> None:
        self._batch = batch
        self._key = key
        self._slug = deployed.slug.encode()
        self._topic = topics.requests(deployed.slug, Lane.FLEX)
        self._partitions = deployed.partitions
        head = RequestHead(
            id="",
            source=SOURCE,
            path=batch.path,
            expires_at_s=batch.expires_at_s,
            tenant=batch.tenant or None,
            batch_id=batch.id,
        )
        self._headers = [header for header in requests.write(head) if header[0] != h.ID]
        self._tenant = batch.tenant.encode()
        self._expiry = requests.expiry(batch.expires_at_s)[1]

    def record(self, line: int, raw: bytes) -> Outgoing:
        """The record of a line."""
        line_id = request_id(self._batch.id, line).encode()
        headers = [(h.ID, line_id), *self._headers]
        if self._key is not None:
            claims = Claims(self._tenant, line_id, self._slug, self._expiry)
            headers.append((h.SIGNATURE, sign(self._key, claims)))
        value = orjson.dumps(orjson.loads(raw)["body"])
        return Outgoing(self._topic, value, None, headers, line % self._partitions)


async def queue(parts: Parts, owner: str, batch: Batch) -> None:
    """Publish lines until the window is full, all are queued, or somebody else has a say.

    Raises:
        Unavailable: Kafka, database or bucket do not serve; what is not noted is published again.
        NotFound: the input file is gone.
        UnknownModel: the model is no longer deployed.
    """
    records = Records(batch, parts.find(batch.model or ""), parts.topics, parts.key)
    file = await input_file(parts, batch)
    room = parts.limits.batches.window_lines - (batch.queued_lines - batch.done)
    end = min(batch.total, batch.queued_lines + room)
    progress = _Progress(parts, owner, batch)
    try:
        async with aclosing(split(parts.objects, file.object_key, batch.queued_bytes)) as pieces:
            async for some in pieces:
                for first in range(0, len(some), _SAVE_LINES):
                    rows = some[first : first + _SAVE_LINES]
                    rows = rows[: _count(rows, end - progress.lines)]
                    made = [
                        records.record(line, raw)
                        for line, raw in enumerate(filter(bytes.strip, rows), progress.lines)
                    ]
                    receipts = await parts.publisher.send_all(made)
                    if not await progress.sent(receipts, len(made), sum(map(len, rows)) + len(rows)):
                        return
                    if progress.lines >= end:
                        return
    finally:
        await progress.end()


class _Progress:
    """How far it has come. What Kafka has is noted while the next lines are on their way."""

    def __init__(self, parts: Parts, owner: str, batch: Batch) -> None:
        self._parts = parts
        self._owner = owner
        self._id = batch.id
        self._noting: asyncio.Task[bool] | None = None
        self.lines = batch.queued_lines
        self._bytes = batch.queued_bytes

    async def sent(self, receipts: Sequence[Receipt], lines: int, size_bytes: int) -> bool:
        """So many more lines are on their way; False when the batch is not ours to queue any more.

        Raises:
            Unavailable: what was on its way before did not arrive.
        """
        self.lines += lines
        self._bytes += size_bytes
        noting, self._noting = self._noting, None
        if noting is not None and not await noting:
            for receipt in receipts:
                await receipt
            return False
        self._noting = asyncio.create_task(self._note(receipts, self.lines, self._bytes))
        return True

    async def end(self) -> None:
        """Wait for what is on its way.

        Raises:
            Unavailable: it did not arrive; whoever goes on publishes it again.
        """
        if self._noting is not None:
            await self._noting

    async def _note(self, receipts: Sequence[Receipt], lines: int, size_bytes: int) -> bool:
        for receipt in receipts:
            await receipt
        noted = {"queued_lines": lines, "queued_bytes": size_bytes}
        return await self._parts.batches.change(self._id, self._owner, noted, BatchState.IN_PROGRESS)


def _count(some: Sequence[bytes], lines: int) -> int:
    """How many rows hold so many lines: blank ones are none."""
    for row, raw in enumerate(some):
        if raw.strip():
            lines -= 1
            if lines < 0:
                return row
    return len(some)
