"""Policies beside one another on the same work: run, table, JSON, plot."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from headrace.contracts.errors import SetupError
from headrace.core.pacing import PaceRules
from headrace.core.planning import Rules
from headrace.core.policies import Fixed, Keda, Oracle, Ours
from headrace.core.simulation import Job, Outcome, Policy, Site, simulate
from headrace.core.sizing import Dials

POLICIES: Final = ("headrace", "keda", "fixed", "oracle")
_TAIL_S: Final = 1800.0
_PEAK_S: Final = 300.0
_HEAD: Final = ("policy", "gpu_hours", "starts", "most", "p50_wait_s", "p95_wait_s", "max_wait_s", "served")


@dataclass(frozen=True, slots=True)
class Setup:
    """What all policies have in common, and their own dials. work_s: a guess that ours begins with."""

    site: Site
    dials: Dials
    idle_s: float | None = None
    keda_threshold: float = 10.0
    fixed: int | None = None
    work_s: float | None = None


def compare(jobs: Sequence[Job], setup: Setup, names: Sequence[str], until_s: float) -> dict[str, Outcome]:
    """Run each policy on the jobs, and for half an hour longer."""
    return {
        name: simulate(jobs, setup.site, _policy(name, jobs, setup, until_s), until_s + _TAIL_S)
        for name in names
    }


def total(each: Iterable[Mapping[str, Outcome]]) -> dict[str, Outcome]:
    """Several models as one, without their moments."""
    found: dict[str, Outcome] = {}
    for outcomes in each:
        for name, outcome in outcomes.items():
            sum_ = found.setdefault(name, Outcome())
            sum_.gpu_s += outcome.gpu_s
            sum_.starts += outcome.starts
            sum_.waits_s += outcome.waits_s
            sum_.left_s += outcome.left_s
            sum_.lives += outcome.lives
    for sum_ in found.values():
        sum_.most = _most(sum_.lives)
    return found


def rows(outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """One for each policy."""
    return [
        {
            "policy": name,
            "gpu_hours": round(outcome.gpu_s / 3600, 3),
            "starts": outcome.starts,
            "most": outcome.most,
            "p50_wait_s": round(outcome.wait_s(0.5), 2),
            "p95_wait_s": round(outcome.wait_s(0.95), 2),
            "max_wait_s": round(outcome.wait_s(1.0), 2),
            "served": len(outcome.waits_s),
        }
        for name, outcome in outcomes.items()
    ]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows for people."""
    cells = [_HEAD, *(tuple(str(row[name]) for name in _HEAD) for row in found)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        f"{first:{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        for first, *rest in cells
    )


def draw(outcomes: Mapping[str, Outcome], title: str, path: Path) -> None:
    """Workers and waiting requests over time, a panel for each policy; the file's ending says the format.

    Raises:
        SetupError: matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # heavy, and an extra
    except ImportError:
        raise SetupError("Plots need matplotlib: `pip install 'headrace[plots]'`") from None
    figure = Figure(figsize=(11, 2.2 * len(outcomes) + 0.6), layout="constrained")
    panels = figure.subplots(len(outcomes), sharex=True, squeeze=False)[:, 0]
    most = max((outcome.most for outcome in outcomes.values()), default=1)
    for panel, (name, outcome) in zip(panels, outcomes.items(), strict=True):
        hours = [moment.at_s / 3600 for moment in outcome.moments]
        panel.fill_between(
            hours, [moment.workers for moment in outcome.moments], step="post", alpha=0.35, label="workers"
        )
        panel.step(hours, [moment.warm for moment in outcome.moments], where="post", lw=0.8, label="warm")
        panel.set(ylabel=name, ylim=(0, most * 1.05 + 0.5))
        queue = panel.twinx()
        queue.plot(hours, [moment.waiting for moment in outcome.moments], "k-", lw=0.5, alpha=0.6)
        queue.set(ylabel="waiting", ylim=(0, None))
        told = f"{outcome.gpu_s / 3600:.2f} GPU hours, p95 wait {outcome.wait_s(0.95):.1f} s"
        panel.set_title(told, fontsize=9, loc="right")
    panels[0].legend(loc="upper left", fontsize=8)
    panels[-1].set_xlabel("hours")
    figure.suptitle(title, fontsize=10)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} cannot be written: {error}") from None


def _policy(name: str, jobs: Sequence[Job], setup: Setup, until_s: float) -> Policy:
    site, dials = setup.site, setup.dials
    if name == "headrace":
        rules = Rules(dials, PaceRules(idle_s=setup.idle_s))
        return Ours(rules, site.slots, site.cold_start_s, setup.work_s)
    if name == "keda":
        return Keda(setup.keda_threshold, dials.max_workers)
    if name == "fixed":
        return Fixed(setup.fixed if setup.fixed is not None else _peak(jobs, dials), until_s)
    return Oracle(jobs, site.cold_start_s, dials.drain_target_s, dials.max_workers)


def _most(lives: Sequence[tuple[float, float]]) -> int:
    """Workers that there are at one time. Who ends makes room for who begins."""
    changes = sorted([(end_s, -1) for _, end_s in lives] + [(begin_s, 1) for begin_s, _ in lives])
    return max(accumulate(change for _, change in changes), default=0)


def _peak(jobs: Sequence[Job], dials: Dials) -> int:
    """Workers for the busiest five minutes."""
    work_s: dict[int, float] = {}
    for job in jobs:
        index = int(job.at_s / _PEAK_S)
        work_s[index] = work_s.get(index, 0.0) + job.work_s
    most = max(work_s.values(), default=0.0)
    return min(dials.max_workers, max(1, math.ceil(most / _PEAK_S / dials.utilization)))
