"""What the scaler's own decisions say of the past: which work came, and what was spent on it. Pure."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from headrace.contracts.decisions import Decision
from headrace.core.simulation import Job

_SILENT_S: Final = 120.0
"""Every model is decided about once a minute: for so long no scaler has acted."""


def jobs(decisions: Sequence[Decision]) -> list[Job]:
    """The requests of one model, from its decisions in their order; times are from the first one on.

    Those that came between two decisions are spread evenly. What a request costs is what was known then, or
    what was learned first.
    """
    known = [each.work_s for each in decisions if each.work_s is not None]
    if not known:
        return []
    found: list[Job] = []
    clock_s, work_s = 0.0, known[0]
    for before, now in pairwise(_read(decisions)):
        work_s = now.work_s if now.work_s is not None else work_s
        new = now.arrived - before.arrived
        # A topic that was made anew counts from the beginning.
        number = new if new >= 0 else now.arrived
        passed_s = _passed_s(before, now)
        found += [Job(clock_s + passed_s * (n + 1) / number, work_s) for n in range(number)]
        clock_s += passed_s
    return found


def lasted_s(decisions: Sequence[Decision]) -> float:
    """Seconds from the first to the last."""
    return sum(_passed_s(before, now) for before, now in pairwise(decisions))


def spent_s(decisions: Sequence[Decision]) -> float:
    """Seconds of all workers, from their start to their end."""
    return sum(_workers(before, now) * _passed_s(before, now) for before, now in pairwise(decisions))


def cold_start_s(decisions: Sequence[Decision]) -> float:
    """The latest that was known."""
    return decisions[-1].cold_start_s


def _read(decisions: Sequence[Decision]) -> Iterator[Decision]:
    """Without those that a new scaler has written before it could read the topics: they count no requests,
    and the next one goes on from before."""
    last, none = 0, list[Decision]()
    for each in decisions:
        if not each.arrived:
            none.append(each)
            continue
        if not last or each.arrived < last:
            yield from none
        none.clear()
        last = each.arrived
        yield each
    yield from none


def _passed_s(before: Decision, now: Decision) -> float:
    """Another scaler's clock may be behind."""
    return max(0.0, now.at_s - before.at_s)


def _workers(before: Decision, now: Decision) -> int:
    """Between the two; where nobody acted meanwhile, those that there were before and after it."""
    there = before.warm + before.starting + before.draining
    if now.at_s - before.at_s <= _SILENT_S:
        return there
    return min(there, now.warm + now.starting + now.draining)
