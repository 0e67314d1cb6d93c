"""The requests a worker has fetched and not begun, and in which order it begins them. Pure.

Lanes: the higher first, but each lower lane that waits gets a tenth of the starts. Tenants within a lane:
deficit round-robin (Shreedhar and Varghese, SIGCOMM 1995), a request costing one and another one for each
16 KiB of its body. Order within a tenant is the order of arrival.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from headrace.contracts.topics import LANES, Lane
from headrace.core.ports import Record

FLOOR: Final = 0.1
"""Share of the starts that each waiting lower lane gets."""
_COST_BYTES: Final = 16_384

Tenant = bytes | None


class LaneQueue:
    """One lane's waiting requests."""

    def __init__(self) -> None:
        self._queues: dict[Tenant, deque[Record]] = {}
        self._turns: deque[Tenant] = deque()
        self._deficits: dict[Tenant, int] = {}
        self._size = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._size

    def add(self, tenant: Tenant, record: Record) -> None:
        """One more."""
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = deque()
            self._turns.append(tenant)
            self._deficits[tenant] = 0
        queue.append(record)
        self._size += 1

    def pop(self) -> Record:
        """The one whose turn it is; there must be one."""
        turns = self._turns
        if len(turns) > 1:
            while self._deficits[turns[0]] < (cost := _cost(self._queues[turns[0]][0])):
                self._deficits[turns[0]] += 1
                if self._deficits[turns[0]] < cost:
                    turns.rotate(-1)
            self._deficits[turns[0]] -= cost
        tenant = turns[0]
        queue = self._queues[tenant]
        record = queue.popleft()
        self._size -= 1
        if not queue:
            del self._queues[tenant], self._deficits[tenant]
            turns.popleft()
        elif self._deficits[tenant] <= 0:
            turns.rotate(-1)
        return record

    def drain(self) -> list[Record]:
        """All of them; none is left."""
        records = [record for queue in self._queues.values() for record in queue]
        self.__init__()  # type: ignore[misc]  # empty again
        return records


class Window:
    """The lanes' waiting requests. `tenant_of`: whose a record is."""

    def __init__(self, tenant_of: Callable[[Record], Tenant]) -> None:
        self._tenant_of = tenant_of
        self._lanes: dict[Lane, LaneQueue] = {lane: LaneQueue() for lane in LANES}
        self._credits = dict.fromkeys(LANES, 0.0)

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._lanes.values()))

    def waiting(self, lane: Lane) -> int:
        """How many wait in a lane."""
        return len(self._lanes[lane])

    def add(self, lane: Lane, records: Iterable[Record]) -> None:
        """Take in what was fetched."""
        queue = self._lanes[lane]
        for record in records:
            queue.add(self._tenant_of(record), record)

    def take(self, most: int) -> list[Record]:
        """Up to so many, in the order in which they are to begin."""
        taken: list[Record] = []
        while len(taken) < most:
            waiting = [lane for lane in LANES if self._lanes[lane]]
            if not waiting:
                break
            if len(waiting) == 1:
                queue = self._lanes[waiting[0]]
                taken += [queue.pop() for _ in range(min(most - len(taken), len(queue)))]
                break
            taken.append(self._lanes[self._choose(waiting)].pop())
        return taken

    def drain(self) -> list[Record]:
        """All of them; none is left."""
        return [record for queue in self._lanes.values() for record in queue.drain()]

    def _choose(self, waiting: list[Lane]) -> Lane:
        first, *lower = waiting
        for lane in lower:
            self._credits[lane] += FLOOR
        for lane in lower:
            if self._credits[lane] >= 1.0:
                self._credits[lane] -= 1.0
                return lane
        return first


def _cost(record: Record) -> int:
    return 1 + len(record.value or b"") // _COST_BYTES
