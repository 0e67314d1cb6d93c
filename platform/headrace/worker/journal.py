"""The file that says what this worker has in flight: the shell round `core.journal`."""

import mmap
from collections.abc import Mapping
from pathlib import Path

from headrace.contracts.topics import Lane
from headrace.core import journal
from headrace.core.journal import InFlight
from headrace.core.ports import Place


class Journal:
    """Marks requests of the `lanes` (topic to lane), at most so many `slots` at once."""

    def __init__(self, path: Path, slots: int, lanes: Mapping[str, Lane]) -> None:
        self._path = path
        self._lanes = lanes
        blank = journal.blank(slots)
        with path.open("w+b") as file:
            file.write(blank)
            file.flush()
            self._map = mmap.mmap(file.fileno(), len(blank))
        self._buffer = memoryview(self._map)
        self._free = list(range(slots))  # the last first: of a long file only the end may be seen
        self._slots: dict[Place, int] = {}

    def mark(self, place: Place, crashes: int = 0) -> None:
        """The request is about to begin. Beyond the slots nothing is marked: it just cannot be blamed."""
        if self._free:
            slot = self._slots[place] = self._free.pop()
            lane = self._lanes[place.topic]
            journal.mark(self._buffer, slot, InFlight(lane, place.partition, place.offset, crashes))

    def clear(self, place: Place) -> None:
        """The request runs no more."""
        slot = self._slots.pop(place, None)
        if slot is not None:
            journal.clear(self._buffer, slot)
            self._free.append(slot)

    def close(self) -> None:
        """Remove the file, or empty one that cannot go: a worker that ends in order has nothing in flight."""
        self._buffer.release()
        self._map.close()
        try:
            self._path.unlink(missing_ok=True)
        except OSError:  # mounted into a container
            self._path.write_bytes(b"")
