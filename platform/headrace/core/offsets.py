"""Which offsets of a partition are finished, when they finish out of order.

A tracker knows, of one partition, the highest offset seen and which offsets at or below it are not done.
Everything else at or below it counts as done, including offsets that never come: compacted records,
transaction markers, records that retention removed. What may be committed is the lowest offset not done;
what is done beyond it goes into the commit's metadata as a bitmap, so that a restart redoes nothing. A
worker that loses a partition also writes there what it still runs: whoever has the partition next leaves
these offsets alone until they are done or free.

The bitmap idea is confluentinc/parallel-consumer's; the form here is our own, see `encode`.
"""

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

MAX_METADATA_CHARS: Final = 3_900
"""Measured on Kafka 4.4: 3,900 are kept, 5,000 refused (`offset.metadata.max.bytes` is 4,096)."""

MAX_SPAN: Final = 16_384
"""Offsets between the committed one and the highest seen. Their bitmap has 2,731 characters, so it always
fits, and leaves room for holds. A partition beyond it is left alone until its oldest request is done."""

_HEAD: Final = "2:"
_TICK_S: Final = 1.0
"""Times in commits are whole seconds, cut off: a word must be so much younger to be surely newer."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What to commit for a partition: all below `offset` is done, and so is what `metadata` says."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Offsets that `worker` still runs though it has lost the partition; free after `until_s` (Unix time)."""

    worker: str
    until_s: float
    offsets: frozenset[int]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a commit's metadata says: offsets at or beyond the committed one that are done, or held."""

    done: frozenset[int] = frozenset()
    holds: tuple[Hold, ...] = ()


class Tracker:
    """Offsets of one partition. Offsets arrive in rising order, from where reading began, after every seek.

    mine: offsets that this worker still runs, from an earlier time when it had the partition.
    """

    def __init__(self, commit: Commit | None = None, mine: Iterable[int] = ()) -> None:
        offset = commit.offset if commit else 0
        progress = decode(commit) if commit else Progress()
        held = {n: hold for hold in progress.holds for n in hold.offsets}
        self._running = {n for n in mine if n >= offset and n not in progress.done}
        self._held = {n: hold for n, hold in held.items() if n not in self._running}
        self._seen = max((*progress.done, *held, *self._running), default=offset - 1)
        # Not done and not running: read before a restart, to be read again.
        known = progress.done | self._running | self._held.keys()
        self._owed = set(range(offset, self._seen + 1)) - known
        # Held or running no longer; owed as soon as reading goes back to them.
        self._freed: set[int] = set()
        self._floor = offset
        self.skipped = 0
        """Offsets that count as done because they never came."""

    @property
    def watermark(self) -> int:
        """The lowest offset that is not done."""
        sets = (self._running, self._owed, self._held, self._freed)
        lowest = min((min(undone) for undone in sets if undone), default=self._seen + 1)
        return max(lowest, self._floor)

    @property
    def span(self) -> int:
        """Offsets from the watermark to the highest seen."""
        return self._seen + 1 - self.watermark

    @property
    def running(self) -> frozenset[int]:
        """Offsets started and not done."""
        return frozenset(self._running)

    @property
    def held(self) -> frozenset[int]:
        """Offsets that other workers run."""
        return frozenset(self._held)

    def start(self, offset: int) -> bool:
        """Whether the record at `offset` is to be run now; False when it is done, running or held."""
        if offset > self._seen:
            if self._seen < self._floor and not self._running and not self._owed:
                # Nothing read yet: the log may begin later than the commit (retention, a new group).
                self._floor = offset
            # All that was owed lies below and did not come again: it is gone.
            self.skipped += len(self._owed) + offset - self._seen - 1
            self._owed.clear()
            self._seen = offset
            self._running.add(offset)
            return True
        if self._owed:
            # Offsets rise, so those below are gone (retention).
            self._lose_below(offset)
            if offset in self._owed:
                self._owed.remove(offset)
                self._running.add(offset)
                return True
        if offset in self._freed:
            self._freed.remove(offset)
            self._running.add(offset)
            return True
        return False

    def passed(self, position: int) -> bool:
        """Reading has come to `position`, and what was not given below it is not there: the markers of
        transactions, aborted and compacted records. Whether more can be committed now."""
        before = self.watermark
        self._lose_below(position)
        self.skipped += max(0, position - 1 - self._seen)
        self._seen = max(self._seen, position - 1)
        return self.watermark > before

    def _lose_below(self, offset: int) -> None:
        left = {owed for owed in self._owed if owed >= offset}
        self.skipped += len(self._owed) - len(left)
        self._owed = left

    def complete(self, offset: int) -> None:
        """The record's fate is durable. Unknown offsets are ignored: the partition may have come back."""
        self._running.discard(offset)

    def put_back(self, offset: int) -> None:
        """The record was started by nobody after all: it is free to be read again."""
        if offset in self._running:
            self._running.remove(offset)
            self._freed.add(offset)

    def is_done(self, offset: int) -> bool:
        """Whether an offset that was started here is done."""
        return not any(offset in undone for undone in (self._running, self._owed, self._held, self._freed))

    def told(self, hold: Hold, done: Iterable[int]) -> bool:
        """A holder's word on what is `done` and what it still runs; whether something is free now.

        What is done is done, whenever that was said. Of what else is held, a word that is not newer says
        nothing: it may be of an earlier time when the holder had the partition, and had not begun it.
        """
        free = False
        done = frozenset(done)
        for offset, held in [each for each in self._held.items() if each[1].worker == hold.worker]:
            if offset in done:
                del self._held[offset]
            elif held.until_s + _TICK_S <= hold.until_s:
                if offset in hold.offsets:
                    self._held[offset] = hold
                else:
                    del self._held[offset]
                    self._freed.add(offset)
                    free = True
        return free

    def free(self, worker: str) -> bool:
        """The holder is dead; whether something is free now."""
        return self.told(Hold(worker, math.inf, frozenset()), ())

    def expire(self, now_s: float) -> bool:
        """Holds that were not renewed end; whether something is free now."""
        late = {hold.worker for hold in self._held.values() if hold.until_s <= now_s}
        return sum(self.free(worker) for worker in late) > 0

    def reread(self) -> int | None:
        """Reading goes back, to the offset given, for what has become free; None when nothing has."""
        return self.resume() if self._freed else None

    def resume(self) -> int:
        """Reading goes on at the offset given, when this tracker survives a rebalance."""
        self._owed |= self._freed
        self._freed.clear()
        return min(self._owed, default=self._seen + 1)

    def commit(self, mine: Hold | None = None) -> Commit:
        """What can be committed now; with `mine`, what runs here is held by this worker."""
        offset = self.watermark
        undone = self._running | self._owed | self._freed | self._held.keys()
        by_worker: dict[tuple[str, float], set[int]] = {}
        for n, hold in self._held.items():
            by_worker.setdefault((hold.worker, hold.until_s), set()).add(n)
        holds = [Hold(worker, until_s, frozenset(held)) for (worker, until_s), held in by_worker.items()]
        if mine is not None and self._running:
            holds.append(replace(mine, offsets=frozenset(self._running)))
        done = frozenset(n for n in range(offset, self._seen + 1) if n not in undone)
        return Commit(offset, encode(offset, Progress(done, tuple(holds))))


def backlog(commit: Commit | None, log_start: int, log_end: int) -> int:
    """Requests of a partition that have no fate yet, waiting or running: what lag is taken for."""
    first = max(log_start, commit.offset if commit else 0)
    done = decode(commit).done if commit else frozenset()
    return max(0, log_end - first) - sum(first <= n < log_end for n in done)


def encode(offset: int, progress: Progress) -> str:
    """The metadata for a commit at `offset`.

    `2:` and base64url of the bits from the committed offset on, least significant bit first, 1 = done.
    Then, for each hold, `;worker,until_s,` and base64url of its offsets: each as the distance from the one
    before, the first from the committed offset, in LEB128. What does not fit into `MAX_METADATA_CHARS` is
    left out, highest held offsets first: it is only done again.
    """
    bits = 0
    for number in progress.done:
        bits |= 1 << (number - offset)
    bitmap = _base64(bits.to_bytes((bits.bit_length() + 7) // 8, "little"))
    if len(_HEAD) + len(bitmap) > MAX_METADATA_CHARS:
        bitmap = ""
    text = _HEAD + bitmap
    for hold in progress.holds:
        head = f";{hold.worker},{int(hold.until_s)},"
        if (room := MAX_METADATA_CHARS - len(text) - len(head)) > 0:
            text += head + _base64(_distances(offset, sorted(hold.offsets), room * 3 // 4))
    return "" if text == _HEAD else text


def decode(commit: Commit) -> Progress:
    """What the metadata says. Unreadable metadata says nothing: the work is redone."""
    if not commit.metadata.startswith(_HEAD):
        return Progress()
    bitmap, *holds = commit.metadata.removeprefix(_HEAD).split(";")
    try:
        bits = int.from_bytes(_raw(bitmap), "little")
        done = frozenset(commit.offset + n for n in range(bits.bit_length()) if bits >> n & 1)
        return Progress(done, tuple(_hold(commit.offset, text) for text in holds))
    except (ValueError, IndexError):
        return Progress()


def _hold(offset: int, text: str) -> Hold:
    worker, until_s, packed = text.rsplit(",", 2)
    offsets, shift, value = [], 0, 0
    for byte in _raw(packed):
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            offset += value
            offsets.append(offset)
            shift = value = 0
    return Hold(worker, float(until_s), frozenset(offsets))


def _distances(offset: int, numbers: Sequence[int], max_bytes: int) -> bytes:
    packed = bytearray()
    for number in numbers:
        one = bytearray()
        distance, offset = number - offset, number
        while distance > 0x7F:
            one.append(distance & 0x7F | 0x80)
            distance >>= 7
        one.append(distance)
        if len(packed) + len(one) > max_bytes:
            break
        packed += one
    return bytes(packed)


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
