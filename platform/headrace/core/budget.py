"""No more GPUs than there are, also while one version of a model takes over from another. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headrace.core.scaling import Action, Phase, Start, Stop, Worker


class Afforded(NamedTuple):
    """What may be done now. refused: starts that wait until others have ended, by model."""

    actions: tuple[Action, ...]
    refused: Mapping[str, int]


def afford(
    actions: Sequence[Action], workers: Sequence[Worker], gpus: Mapping[str, int], most: int
) -> Afforded:
    """Only those starts for which there are GPUs. gpus: of one worker, by model; most: of all together.

    Whoever has not ended holds its own. Where an older version of the model holds what the new one needs, one
    of its workers goes for each that is to come: the new ones take over one by one. With one GPU the model
    pauses for a start; requests wait meanwhile.
    """
    held = sum(gpus.get(worker.model, 0) for worker in workers)
    done: list[Action] = []
    refused: list[Start] = []
    for action in actions:
        need = gpus.get(action.model, 0) if isinstance(action, Start) else 0
        if isinstance(action, Start) and need and held + need > most:
            refused.append(action)
        else:
            held += need
            done.append(action)
    going = {action.worker_id for action in done if isinstance(action, Stop)}
    going |= {worker.id for worker in workers if worker.phase is Phase.DRAINING}
    return Afforded(
        (*done, *_room(refused, workers, going, gpus)), Counter(action.model for action in refused)
    )


def _room(
    refused: Sequence[Start], workers: Sequence[Worker], going: set[str], gpus: Mapping[str, int]
) -> list[Stop]:
    """Workers of older versions that make room for the newer one, those with the least to finish first."""
    coming = sum(gpus.get(worker.model, 0) for worker in workers if worker.id in going)
    stops: list[Stop] = []
    for start in refused:
        need = gpus[start.model]
        if coming >= need:
            coming -= need
            continue
        old = [
            worker
            for worker in workers
            if worker.model == start.model and worker.version != start.version and worker.id not in going
        ]
        if old:
            first = min(old, key=lambda worker: (worker.phase is Phase.READY, worker.running))
            going.add(first.id)
            stops.append(Stop(first.id, f"makes room for version {start.version}: GPU budget"))
    return stops
