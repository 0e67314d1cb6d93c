"""No more workers than there is room for, also while one version of a model takes over from another. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from headrace.core.scaling import Action, Phase, Start, Stop, Worker, loss


class Pool(NamedTuple):
    """Something of which there is so much: GPUs of all models, places of one.

    takes: what a worker holds of it, by model, from its start until it has ended. most: of all together.
    before: what those of an older version hold, by model and version, as far as that is known.
    """

    name: str
    takes: Mapping[str, int]
    most: int
    before: Mapping[tuple[str, str], int] = {}

    def held(self, worker: Worker) -> int:
        """What it holds."""
        return self.before.get((worker.model, worker.version), self.takes.get(worker.model, 0))


class Afforded(NamedTuple):
    """What may be done now. refused: starts that wait until others have ended, by model, and for what."""

    actions: tuple[Action, ...]
    refused: Mapping[str, tuple[int, str]]


def afford(actions: Sequence[Action], workers: Sequence[Worker], pools: Sequence[Pool]) -> Afforded:
    """Only those starts for which there is room.

    Where older versions of a model hold what its new one needs, they make room for one worker after the
    other, and the rest serves meanwhile. Where there is room for one worker only, the model pauses for a
    start, and requests wait.
    """
    room = _Room(workers, pools)
    done: list[Action] = []
    refused: list[Start] = []
    short: dict[str, str] = {}
    for action in actions:
        if isinstance(action, Start) and (pool := room.short(action)) is not None:
            refused.append(action)
            short[action.model] = pool.name
        else:
            done.append(action)
            room.give(action)
    stops = [stop for start in _first(refused) for stop in room.make(start, short[start.model])]
    counts = Counter(start.model for start in refused)
    return Afforded((*done, *stops), {model: (number, short[model]) for model, number in counts.items()})


class _Room:
    """Who holds what, who comes and who goes."""

    def __init__(self, workers: Sequence[Worker], pools: Sequence[Pool]) -> None:
        self._workers = workers
        self._going = {worker.id for worker in workers if worker.phase is Phase.DRAINING}
        self._coming = {(each.model, each.version) for each in workers if each.phase is Phase.STARTING}
        self._of: defaultdict[str, list[int]] = defaultdict(list)
        for number, pool in enumerate(pools):
            for model in pool.takes:
                self._of[model].append(number)
        self._pools = pools
        self._free = [pool.most for pool in pools]
        for worker in workers:
            for number in self._of[worker.model]:
                self._free[number] -= pools[number].held(worker)

    def give(self, action: Action) -> None:
        """It is done. Whoever goes holds what it has until it is gone."""
        if isinstance(action, Stop):
            self._going.add(action.worker_id)
        else:
            for number in self._of[action.model]:
                self._free[number] -= self._need(number, action.model)
            self._coming.add((action.model, action.version))

    def short(self, start: Start) -> Pool | None:
        """What there is too little of for it now."""
        lacking = (
            number
            for number in self._of[start.model]
            if self._free[number] < self._need(number, start.model) > 0
        )
        return next((self._pools[number] for number in lacking), None)

    def make(self, start: Start, name: str) -> list[Stop]:
        """Workers of older versions that go for it; none while another of its version comes."""
        if (start.model, start.version) in self._coming:
            return []
        old = [each for each in self._workers if each.model == start.model and each.version != start.version]
        old.sort(key=loss)
        lacks = {
            number: self._need(number, start.model) - self._free[number] - self._freed(number)
            for number in self._of[start.model]
            if self._need(number, start.model)
        }
        leaving: list[Worker] = []
        for worker in old:
            if all(lack <= 0 for lack in lacks.values()):
                break
            if worker.id not in self._going:
                leaving.append(worker)
                lacks = {number: lack - self._pools[number].held(worker) for number, lack in lacks.items()}
        if any(lack > 0 for lack in lacks.values()):
            return []  # others hold it, and would go on
        self._going |= {worker.id for worker in leaving}
        return [Stop(worker.id, f"makes room for version {start.version}: {name}") for worker in leaving]

    def _need(self, number: int, model: str) -> int:
        return self._pools[number].takes[model]

    def _freed(self, number: int) -> int:
        """What those hold who go."""
        pool = self._pools[number]
        return sum(pool.held(worker) for worker in self._workers if worker.id in self._going)


def _first(starts: Iterable[Start]) -> Iterable[Start]:
    """One of each model."""
    return {start.model: start for start in starts}.values()
