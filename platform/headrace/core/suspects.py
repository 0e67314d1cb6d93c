"""When suspects run: one group at a time beside the others, and alone who must be alone. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from headrace.core.blame import ALONE, Blame
from headrace.core.ports import Place, Record

_MAX: Final = 20_000


class Suspects:
    """The blamed that this worker has heard of, and those of them that wait here to run."""

    def __init__(self) -> None:
        self._known: dict[Place, Blame] = {}
        self._waiting: dict[str, list[Record]] = {}
        self._running: set[Place] = set()

    def __bool__(self) -> bool:
        """Whether anybody is blamed at all: mostly nobody is."""
        return bool(self._known)

    @property
    def wants_alone(self) -> bool:
        """Whether nothing else may begin: somebody runs alone, or waits for its turn to."""
        if self._running:
            return any(self.crashes(place) >= ALONE for place in self._running)
        return bool(self._waiting) and self._is_alone(self._next())

    def learn(self, blamed: Iterable[Blame]) -> None:
        """Somebody was in flight when a worker crashed; the highest count is the latest word."""
        for each in blamed:
            known = self._known.get(each.place)
            if known is None or each.crashes > known.crashes:
                self._known.pop(each.place, None)
                self._known[each.place] = each
        while len(self._known) > _MAX:
            del self._known[next(iter(self._known))]

    def crashes(self, place: Place) -> int:
        """How many crashes it is blamed for."""
        found = self._known.get(place)
        return 0 if found is None else found.crashes

    def add(self, record: Record) -> bool:
        """Whether the record is a suspect's, and waits here now."""
        found = self._known.get(record.place)
        if found is None:
            return False
        self._waiting.setdefault(found.group, []).append(record)
        return True

    def take(self, free: int, in_flight: int) -> list[Record]:
        """Who begins now: `free` slots, so many `in_flight` of everybody."""
        if self._running or not self._waiting:
            return []
        group = self._next()
        if self._is_alone(group):
            free = 1 if in_flight == 0 else 0
        taken, left = self._waiting[group][:free], self._waiting[group][free:]
        del self._waiting[group]
        if left:
            self._waiting = {group: left, **self._waiting}
        self._running.update(record.place for record in taken)
        return taken

    def done(self, place: Place) -> None:
        """It ran and nothing crashed, so it is cleared; or it has found its fate otherwise."""
        self._running.discard(place)
        self._known.pop(place, None)

    def drain(self) -> Iterator[Record]:
        """Those that wait; none is left."""
        waiting, self._waiting = self._waiting, {}
        for records in waiting.values():
            yield from records

    def _next(self) -> str:
        # Those in company first: they are the many, and most are cleared by it.
        return min(self._waiting, key=self._is_alone)

    def _is_alone(self, group: str) -> bool:
        return self.crashes(self._waiting[group][0].place) >= ALONE
