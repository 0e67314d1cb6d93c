"""Arrivals made up, by a seed, for the simulator."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Final

from headrace.core.simulation import Job

_HOUR_S: Final = 3600.0


def steady(seconds: float, per_s: float, seed: int) -> list[float]:
    """Times of a Poisson process."""
    return _thinned(seconds, per_s, lambda _: 1.0, seed)


def daily(seconds: float, per_s: float, seed: int) -> list[float]:
    """A day in the given time: next to nothing at night, twice the mean at noon."""
    return _thinned(seconds, 2 * per_s, lambda at_s: (1 - math.cos(2 * math.pi * at_s / seconds)) / 2, seed)


def bursts(seconds: float, per_s: float, seed: int) -> list[float]:
    """Half a minute at twenty times the mean, every ten minutes; nothing else."""
    return _thinned(seconds, 20 * per_s, lambda at_s: 1.0 if at_s % 600 < 30 else 0.0, seed)


def sparse(seconds: float, per_s: float, seed: int) -> list[float]:
    """Some requests together, then nothing for a quarter of an hour or more."""
    chance = random.Random(seed)  # noqa: S311  # a simulation
    times: list[float] = []
    at_s = chance.expovariate(1 / 900)
    while at_s < seconds:
        size = 1 + int(chance.expovariate(1 / max(1.0, 900 * per_s)))
        times += [at_s + chance.random() * 10 for _ in range(size)]
        at_s += 300 + chance.expovariate(1 / 600)
    return sorted(time for time in times if time < seconds)


PATTERNS: Final[Mapping[str, Callable[[float, float, int], list[float]]]] = {
    "steady": steady,
    "daily": daily,
    "bursts": bursts,
    "sparse": sparse,
}


def jobs(times: list[float], work_s: float, seed: int) -> list[Job]:
    """Requests at these times, their work from an exponential distribution with the mean `work_s`."""
    chance = random.Random(seed)  # noqa: S311  # a simulation
    return [Job(at_s, chance.expovariate(1 / work_s)) for at_s in times]


def _thinned(seconds: float, most_per_s: float, share: Callable[[float], float], seed: int) -> list[float]:
    """A Poisson process whose rate is `share` of the most at each time."""
    chance = random.Random(seed)  # noqa: S311  # a simulation
    times, at_s = [], chance.expovariate(most_per_s)
    while at_s < seconds:
        if chance.random() < share(at_s):
            times.append(at_s)
        at_s += chance.expovariate(most_per_s)
    return times
