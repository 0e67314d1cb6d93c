"""What the scaler's own decisions say of the past: which work came, and what was spent on it. Pure."""

from collections.abc import Sequence
from itertools import pairwise

from headrace.contracts.decisions import Decision
from headrace.core.simulation import Job


def jobs(decisions: Sequence[Decision]) -> list[Job]:
    """The requests of one model, from its decisions in their order; times are from the first one on.

    Those that came between two decisions are spread evenly. What a request costs is what was known then, or
    what was learned first.
    """
    known = [each.work_s for each in decisions if each.work_s is not None]
    if not known:
        return []
    found: list[Job] = []
    start_s, work_s = decisions[0].at_s, known[0]
    for before, now in pairwise(decisions):
        work_s = now.work_s if now.work_s is not None else work_s
        new = now.arrived - before.arrived
        # A topic that was made anew counts from the beginning.
        number = new if new >= 0 else now.arrived
        passed_s = now.at_s - before.at_s
        found += [Job(before.at_s - start_s + passed_s * (n + 1) / number, work_s) for n in range(number)]
    return found


def spent_s(decisions: Sequence[Decision]) -> float:
    """Seconds of all workers, from their start to their end."""
    return sum(
        (before.warm + before.starting + before.draining) * (now.at_s - before.at_s)
        for before, now in pairwise(decisions)
    )


def cold_start_s(decisions: Sequence[Decision]) -> float:
    """The latest that was known."""
    return decisions[-1].cold_start_s
