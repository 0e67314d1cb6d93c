"""Why an actor waits, in words. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.scaler.actuators.ray.messages import Needs

_GRAIN: Final = 1e-4
"""In such steps Ray counts."""


@dataclass(frozen=True, slots=True)
class Room:
    """What each living node has of each resource, and what the cluster has left of each."""

    nodes: Sequence[Mapping[str, float]]
    free: Mapping[str, float]

    def total(self, name: str) -> float:
        """Of all nodes."""
        return sum(node.get(name, 0) for node in self.nodes)


def why_waiting(needs: Needs, room: Room) -> str:
    """What a worker that is not placed lacks; empty when it lacks nothing."""
    wanted = _wanted(needs)
    if not any(all(node.get(name, 0) >= number for name, number in wanted.items()) for node in room.nodes):
        listed = " and ".join(f"{number:g} {name}" for name, number in wanted.items())
        return f"no node of the Ray cluster has {listed}"
    lacking = [
        f"{number:g} {name} ({room.free.get(name, 0):g} of {room.total(name):g} free)"
        for name, number in wanted.items()
        if room.free.get(name, 0) < number
    ]
    return f"waits for {' and '.join(lacking)}" if lacking else ""


def may_start(needs: Needs, before: int, placed: Sequence[Needs], room: Room) -> bool:
    """Whether one that has not answered may have what it needs, and only starts: Ray does not say.

    before: so many others were ordered earlier and have not answered. placed: needs of those that have. What
    is taken and not theirs may be ours.
    """
    for name, number in _wanted(needs).items():
        others = sum(_wanted(each).get(name, 0) for each in placed)
        taken = room.total(name) - room.free.get(name, 0) - others
        if taken < (before + 1) * number - _GRAIN:
            return False
    return True


def _wanted(needs: Needs) -> dict[str, float]:
    wanted = {"GPU": needs.num_gpus, "CPU": needs.num_cpus, **needs.resources}
    return {name: number for name, number in wanted.items() if number}
