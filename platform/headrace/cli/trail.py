"""The trail of a request: every record that it left in Kafka, hop by hop."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.topics import LANES, Topics
from headrace.core.ports import Record
from headrace.kafka.reader import PartitionReader


@dataclass(slots=True)
class Trail:
    """Records of one request, in the order of their times."""

    request_id: str
    records: list[Record] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the final answer is there."""
        return any(replies.final_state(record.headers) is not None for record in self.records)

    def lines(self) -> Iterable[str]:
        """One line a hop; the chunks between the first and the last are counted."""
        hops = sorted(self.records, key=lambda record: record.timestamp_ms)
        if not hops:
            return
        began_ms = hops[0].timestamp_ms
        chunks = [hop for hop in hops if _kind(hop) == "chunk"]
        for hop in hops:
            if hop in chunks[1:-1]:
                continue
            place = hop.place
            where = f"{place.topic}[{place.partition}]@{place.offset}"
            kind = _kind(hop)
            if len(chunks) > 2 and hop is chunks[0]:
                kind = f"chunk 1 of {len(chunks)}"
            yield f"    +{hop.timestamp_ms - began_ms:5d} ms  {where:48} {kind}"


class Trails:
    """Collects the records that come in while it follows."""

    def __init__(self, topics: Topics, slugs: Iterable[str], reader: PartitionReader) -> None:
        self._requests = {topics.requests(slug, lane) for slug in slugs for lane in LANES}
        self._reader = reader
        self._trails: dict[str, Trail] = {}

    async def of(self, request_id: str, timeout_s: float = 10.0) -> Trail:
        """The whole trail of a request.

        Raises:
            TimeoutError: its answer was not seen in time.
        """
        trail = self._trails.setdefault(request_id, Trail(request_id))
        async with asyncio.timeout(timeout_s):
            while not trail.is_complete:
                for record in await self._reader.poll(0.2):
                    self._add(record)
        return trail

    def _add(self, record: Record) -> None:
        name = h.ID if record.place.topic in self._requests else h.CAUSATION_ID
        request_id = record.headers.get(name, b"").decode(errors="replace")
        self._trails.setdefault(request_id, Trail(request_id)).records.append(record)


def _kind(record: Record) -> str:
    kind = record.headers.get(h.TYPE, b"").decode()
    return kind.removeprefix("headrace.inference.").removesuffix(".v1") or "request"
