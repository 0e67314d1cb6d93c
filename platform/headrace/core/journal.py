"""What a worker has in flight, in a form that outlives it: fixed slots in a file that is mapped into memory.

The worker marks a slot before a request begins and clears it when its fate is durable. Whoever sees the
worker crash reads what was in flight (`core.blame`). The kernel keeps a mapped page when its process dies.
Each slot is a line of text, so that the file can be a container's termination message: Kubernetes shows the
last 4096 bytes of one, however the container ended.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from headrace.contracts.topics import LANES, Lane

_LETTERS: Final = {lane: lane.value[0].upper() for lane in LANES}
_LANES: Final = {letter: lane for lane, letter in _LETTERS.items()}
_LINE: Final = re.compile(rb"([PDF])([0-9a-f]{2})([0-9a-f]{4})([0-9a-f]{12})$", re.MULTILINE)
_SLOT_BYTES: Final = 20
_FREE: Final = b" " * (_SLOT_BYTES - 1) + b"\n"


class InFlight(NamedTuple):
    """A request in flight. `crashes`: of workers that had it in flight before this one."""

    lane: Lane
    partition: int
    offset: int
    crashes: int


def size_bytes(slots: int) -> int:
    """The file's size."""
    return slots * _SLOT_BYTES


def blank(slots: int) -> bytes:
    """A journal with nothing in flight."""
    return slots * _FREE


def mark(buffer: memoryview, slot: int, entry: InFlight) -> None:
    """Write an entry into a slot, from 0. A partition has 16 bits, an offset 48."""
    crashes = min(entry.crashes, 255)
    line = f"{_LETTERS[entry.lane]}{crashes:02x}{entry.partition:04x}{entry.offset:012x}\n"
    _write(buffer, slot, line.encode())


def clear(buffer: memoryview, slot: int) -> None:
    """Free a slot."""
    _write(buffer, slot, _FREE)


def read(data: bytes) -> Sequence[InFlight]:
    """What was in flight, by the whole lines of what is left of a journal."""
    return tuple(
        InFlight(_LANES[letter.decode()], int(partition, 16), int(offset, 16), int(crashes, 16))
        for letter, crashes, partition, offset in _LINE.findall(data)
    )


def _write(buffer: memoryview, slot: int, line: bytes) -> None:
    buffer[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES] = line
