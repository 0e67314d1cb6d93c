"""What a worker has in flight, in a form that outlives it: fixed slots in a file that is mapped into memory.

The worker marks a slot before a request begins and clears it when its fate is durable. Whoever sees the
worker crash reads what was in flight (`core.blame`). The kernel keeps a mapped page when its process dies.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from headrace.contracts.topics import LANES, Lane

_HEAD: Final = struct.Struct("<4sI8x")
_SLOT: Final = struct.Struct("<BBBxIQ")
_MAGIC: Final = b"HRJ1"
_FREE: Final = bytes(_SLOT.size)


class InFlight(NamedTuple):
    """A request in flight. `crashes`: of workers that had it in flight before this one."""

    lane: Lane
    partition: int
    offset: int
    crashes: int


def size_bytes(slots: int) -> int:
    """The file's size."""
    return _HEAD.size + slots * _SLOT.size


def blank(slots: int) -> bytes:
    """A journal with nothing in flight."""
    return _HEAD.pack(_MAGIC, slots) + bytes(slots * _SLOT.size)


def mark(buffer: memoryview, slot: int, entry: InFlight) -> None:
    """Write an entry into a slot, from 0."""
    lane = LANES.index(entry.lane)
    crashes = min(entry.crashes, 255)
    _SLOT.pack_into(buffer, _HEAD.size + slot * _SLOT.size, 1, lane, crashes, entry.partition, entry.offset)


def clear(buffer: memoryview, slot: int) -> None:
    """Free a slot."""
    start = _HEAD.size + slot * _SLOT.size
    buffer[start : start + _SLOT.size] = _FREE


def read(data: bytes) -> Sequence[InFlight]:
    """What was in flight; nothing when `data` is no whole journal."""
    if len(data) < _HEAD.size:
        return ()
    magic, slots = _HEAD.unpack_from(data)
    if magic != _MAGIC or len(data) < size_bytes(slots):
        return ()
    entries = (_SLOT.unpack_from(data, _HEAD.size + n * _SLOT.size) for n in range(slots))
    return tuple(
        InFlight(LANES[lane], partition, offset, crashes)
        for marked, lane, crashes, partition, offset in entries
        if marked and lane < len(LANES)
    )
