"""Which offsets of a partition are finished, when they finish out of order.

A tracker knows, of one partition, the highest offset seen and which offsets at or below it are not done.
Everything else at or below it counts as done, including offsets that never come: compacted records,
transaction markers, records that retention removed. What may be committed is the lowest offset not done;
what is done beyond it goes into the commit's metadata as a bitmap, so that a restart redoes nothing.

The bitmap idea is confluentinc/parallel-consumer's; the form here is our own:
`1:` and base64url of the bits from the committed offset on, least significant bit first, 1 = done.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_METADATA_CHARS: Final = 3_900
"""Measured on Kafka 4.4: 3,900 are kept, 5,000 refused (`offset.metadata.max.bytes` is 4,096)."""

MAX_SPAN: Final = 16_384
"""Offsets between the committed one and the highest seen. Their bitmap has 2,731 characters, so it always
fits. A partition beyond it is left alone until its oldest request is done."""

_HEAD: Final = "1:"


@dataclass(frozen=True, slots=True)
class Commit:
    """What to commit for a partition: all below `offset` is done, and so is what `metadata` says."""

    offset: int
    metadata: str


class Tracker:
    """Offsets of one partition. Offsets arrive in rising order, from the committed one, after every seek."""

    def __init__(self, commit: Commit | None = None) -> None:
        offset = commit.offset if commit else 0
        done = decode(commit) if commit else frozenset()
        self._seen = max(done, default=offset - 1)
        # Not done and not running: read before a restart, to be read again.
        self._owed = set(range(offset, self._seen + 1)) - done
        self._running: set[int] = set()
        self._floor = offset

    @property
    def watermark(self) -> int:
        """The lowest offset that is not done."""
        undone = self._running | self._owed
        return max(min(undone, default=self._seen + 1), self._floor)

    @property
    def next_unseen(self) -> int:
        """Where reading goes on when this tracker survives a rebalance."""
        return min(self._owed, default=self._seen + 1)

    @property
    def span(self) -> int:
        """Offsets from the watermark to the highest seen."""
        return self._seen + 1 - self.watermark

    @property
    def in_flight(self) -> int:
        """Offsets started and not done."""
        return len(self._running)

    def start(self, offset: int) -> bool:
        """Whether the record at `offset` is to be run now; False when it is done or running already."""
        if offset > self._seen:
            if self._seen < self._floor and not self._running and not self._owed:
                # Nothing read yet: the log may begin later than the commit (retention, a new group).
                self._floor = offset
            self._owed.clear()  # all of them lie below and did not come again: they are gone
            self._seen = offset
            self._running.add(offset)
            return True
        if offset in self._owed:
            self._owed = {owed for owed in self._owed if owed > offset}
            self._running.add(offset)
            return True
        return False

    def complete(self, offset: int) -> None:
        """The record's fate is durable. Unknown offsets are ignored: the partition may have come back."""
        self._running.discard(offset)

    def commit(self) -> Commit:
        """What can be committed now."""
        offset = self.watermark
        undone = self._running | self._owed
        return Commit(offset, encode(offset, (n for n in range(offset, self._seen + 1) if n not in undone)))


def encode(offset: int, done: Iterable[int]) -> str:
    """The metadata for a commit at `offset` when `done` (all above it) are finished too."""
    bits = 0
    for number in done:
        bits |= 1 << (number - offset)
    if not bits:
        return ""
    text = _HEAD + urlsafe_b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()
    return text if len(text) <= MAX_METADATA_CHARS else ""


def decode(commit: Commit) -> frozenset[int]:
    """Offsets that the metadata says are done. Unreadable metadata says nothing: they are redone."""
    if not commit.metadata.startswith(_HEAD):
        return frozenset()
    try:
        raw = urlsafe_b64decode(commit.metadata.removeprefix(_HEAD))
    except ValueError:
        return frozenset()
    bits = int.from_bytes(raw, "little")
    return frozenset(commit.offset + n for n in range(bits.bit_length()) if bits >> n & 1)
