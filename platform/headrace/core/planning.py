"""How many workers each model is to have: what was observed, through the formula and the pace. Pure.

The scaler, its replay and the simulator decide here and nowhere else.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headrace.core.pacing import Need, Pace, PaceRules, step
from headrace.core.sizing import Demand, Dials, Due, Size, Supply, size

_PENDING_LIMIT: Final = 2.0
"""A start that takes so many times what nine of ten take is no longer counted on: another follows. If that is
no faster, the next one follows when it has taken twice as long again, and so on."""
_FULLEST: Final = 0.95
"""So much of its time may be planned of the worker with the largest share of the partitions."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a model is scaled. partitions: of a lane; more workers than that would have none.

    None: the work is shared without regard to partitions.
    """

    dials: Dials = field(default_factory=Dials)
    pace: PaceRules = field(default_factory=PaceRules)
    partitions: int | None = None


class Load(NamedTuple):
    """What there is to do. waiting: in no worker yet. retrying: come back when their delay has passed.

    arriving_per_s: requests. idle_s: since there was anything to do; pauses_s: how long that lasted before.
    due: deadlines, and the work until then.
    """

    waiting: int = 0
    running: int = 0
    retrying: int = 0
    arriving_per_s: float = 0.0
    idle_s: float = 0.0
    due: Sequence[Due] = ()
    pauses_s: Sequence[float] = ()


class Crew(NamedTuple):
    """A model's workers. free: requests that warm ones could begin now. starting_s: ages of those that start.

    work_s: seconds of one worker for a request, None while nobody knows. cold_start_s: nine times in ten;
    is_guess: none was measured yet.
    enough: more workers than so many have brought no more throughput, None where none is known.
    """

    warm: int = 0
    free: int = 0
    starting_s: Sequence[float] = ()
    work_s: float | None = None
    cold_start_s: float = 0.0
    enough: int | None = None
    is_guess: bool = False


class Plan(NamedTuple):
    """What a model is to have. needed: by the formula; pace.target: now."""

    pace: Pace
    needed: int
    reason: str


@dataclass(frozen=True, slots=True)
class Share:
    """What a model may have of what all models share; `least` it has before others. gpus: of one worker.

    can_wait: it has nothing to do. turn_s: who has the lower one comes first, as in `core.turns`.
    has_some: workers, until now.
    """

    least: int
    wanted: int
    gpus: int = 0
    can_wait: bool = False
    turn_s: float = 0.0
    has_some: bool = False


def plan(load: Load, crew: Crew, rules: Rules, pace: Pace, now_s: float) -> Plan:
    """The number of workers for this load, beside the reason for it."""
    dials = rules.dials
    partitions = rules.partitions
    most = dials.max_workers if partitions is None else min(dials.max_workers, partitions)
    found = _needed(load, crew, rules, max(dials.min_workers, most))
    late = _late(crew)
    if late and crew.warm < found.workers < most:
        found = Size(min(found.workers + late, most), f"{late} of those that start are late ({found.reason})")
    need = Need(
        workers=found.workers,
        min_workers=dials.min_workers,
        is_waiting=load.waiting > 0,
        # What will come back is not nothing.
        idle_s=0.0 if load.waiting or load.running or load.retrying else load.idle_s,
        cold_start_s=crew.cold_start_s,
        warm=crew.warm,
        pauses_s=load.pauses_s,
    )
    now = step(pace, need, rules.pace, now_s)
    reason = f"{now.reason} ({found.reason})" if now.reason else found.reason
    return Plan(now.pace, found.workers, reason)


def shared(shares: Mapping[str, Share], most: int | None, most_gpus: int | None = None) -> dict[str, int]:
    """Workers of each model when all together may have `most`, and as many GPUs; None: any number.

    Each has its least, as far as there are GPUs for it; each further one goes to who has fewest (of GPUs,
    where it takes some), until it is enough for all or none is left. Who can wait comes last; of those that
    have none yet, each in its turn. Behind one that needs more GPUs than are free nobody begins: small ones
    that come and go would leave it none for ever.
    """

    def place(name: str) -> tuple[bool, int, float, str]:
        share = shares[name]
        turn_s = 0.0 if given[name] else share.turn_s
        return share.can_wait, given[name] * max(1, share.gpus), turn_s, name

    given, gpus = _least(shares, math.inf if most_gpus is None else most_gpus)
    left = math.inf if most is None else most - sum(given.values())
    in_all, is_kept = gpus, False
    hungry = [place(name) for name, share in shares.items() if share.wanted > given[name]]
    heapq.heapify(hungry)
    while hungry and left > 0:
        name = heapq.heappop(hungry)[-1]
        share = shares[name]
        if share.gpus > max(0, gpus):
            is_kept = is_kept or (not given[name] and not share.can_wait and share.gpus <= in_all)
            continue
        if is_kept and share.gpus and not given[name] and not share.has_some:
            continue
        given[name] += 1
        left -= 1
        gpus -= share.gpus
        if given[name] < share.wanted:
            heapq.heappush(hungry, place(name))
    return given


def _least(shares: Mapping[str, Share], gpus: float) -> tuple[dict[str, int], float]:
    """What each has in any case, and the GPUs that are left. Who has some is before who has none."""
    given: dict[str, int] = {}
    for name in sorted(shares, key=lambda name: not shares[name].has_some):
        share = shares[name]
        number = min(share.least, share.wanted)
        while number and number * share.gpus > gpus:
            number -= 1
        given[name] = number
        gpus -= number * share.gpus
    return given, gpus


def even(workers: int, partitions: int, dials: Dials) -> int:
    """The least number that does as well as so many workers, where each has whole partitions.

    Who has the most of them is done last: eight workers are not done with twelve before six are. As long as
    what utilization keeps back holds it, the largest share may be larger than the others; else there are as
    many workers as do what `workers` would with equal shares, or what the most there may be can.
    """
    share = math.ceil(partitions / workers)
    if share * workers * dials.utilization <= _FULLEST * partitions:
        return math.ceil(partitions / share)
    number = math.ceil(partitions / max(1, partitions // workers))
    if number <= dials.max_workers:
        return number
    return math.ceil(partitions / math.ceil(partitions / min(dials.max_workers, partitions)))


def _needed(load: Load, crew: Crew, rules: Rules, most: int) -> Size:
    dials = rules.dials
    if crew.work_s is None:
        return _unknown(load, dials, most)
    etas_s = [
        max(0.0, crew.cold_start_s - age_s)
        for age_s in crew.starting_s
        if age_s <= _PENDING_LIMIT * crew.cold_start_s
    ]
    supply = Supply(crew.warm, etas_s, crew.cold_start_s)
    # What runs is on its way: it needs the workers that it runs on, and no others.
    demand = Demand(load.waiting * crew.work_s, load.arriving_per_s * crew.work_s, load.due)
    found = size(demand, supply, Dials(dials.min_workers, most, dials.utilization, dials.drain_target_s))
    # Only what is still to be shared is shared evenly: what runs moves to nobody.
    found = _evened(found, rules)
    hosts = min(most, _hosts(load, crew))
    if hosts > found.workers:
        return Size(hosts, f"{load.running} running need {hosts} ({found.reason})")
    if load.waiting and found.workers < min(1, most):
        # However little it is, nobody does it without a worker.
        return Size(1, f"{load.waiting} waiting need one ({found.reason})")
    if crew.enough is not None and found.workers > max(crew.enough, supply.workers, dials.min_workers):
        number = max(crew.enough, supply.workers, dials.min_workers)
        return Size(number, f"more than {crew.enough} have brought no more ({found.reason})")
    useful = _useful(load, crew, supply, dials)
    if useful < found.workers and dials.min_workers < found.workers:
        enough = max(useful, dials.min_workers)
        return Size(enough, f"{load.waiting} waiting are no work for more ({found.reason})")
    return found


def _evened(found: Size, rules: Rules) -> Size:
    """As many as share the partitions evenly."""
    partitions, least = rules.partitions, rules.dials.min_workers
    if partitions is None or not least < found.workers < partitions:
        return found
    number = max(least, even(found.workers, partitions, rules.dials))
    if number == found.workers:
        return found
    told = f"{found.workers} would share {partitions} partitions unevenly"
    return Size(number, f"{told} ({found.reason})")


def _late(crew: Crew) -> int:
    """Of those that start, how many take so long that others are to follow."""
    if crew.is_guess:
        return 0
    ages_s = sorted(crew.starting_s, reverse=True)
    return sum(
        age_s > _PENDING_LIMIT ** (number + 1) * crew.cold_start_s for number, age_s in enumerate(ages_s)
    )


def _hosts(load: Load, crew: Crew) -> int:
    """Workers that hold all that runs."""
    slots = (crew.free + load.running) / crew.warm if crew.warm else 0.0
    return math.ceil(load.running / slots) if slots else 0


def horizon_s(dials: Dials, cold_start_s: float) -> float:
    """How far is planned ahead."""
    return dials.horizon_s(cold_start_s)


def _useful(load: Load, crew: Crew, supply: Supply, dials: Dials) -> int:
    """Workers that have something to begin: a request that runs cannot be shared by two."""
    coming = load.arriving_per_s * horizon_s(dials, crew.cold_start_s)
    unserved = max(0, load.waiting - crew.free) + coming
    return supply.workers + math.floor(unserved)


def _unknown(load: Load, dials: Dials, most: int) -> Size:
    if load.waiting + load.running == 0 and load.arriving_per_s <= 0:
        return Size(dials.min_workers, "nothing to do")
    told = "what a request costs is not known yet: one worker, to learn it"
    if most < 1:
        return Size(most, f"at most {most} ({told})")
    return Size(max(dials.min_workers, 1), told)
