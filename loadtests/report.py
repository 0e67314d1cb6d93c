"""The figures, as a table for people and as JSON for programs."""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from loadtests.measures import Ratio, Turns, compare, percentile
from loadtests.rounds import Plan
from loadtests.scenarios import Scenario

_PERCENTILES: Final = (50, 95, 99)
_COLUMNS: Final = (
    ("arm", 16), ("at once", 7), ("req/s", 8), ("p50 ms", 8), ("p95 ms", 8), ("p99 ms", 8),
    ("right", 7), ("wrong", 6), ("lost", 5), ("twice", 6),
)  # fmt: skip
_QUIET_US: Final = 1.0
"""A process below this much CPU time for an answer is left out of the table."""


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario and what its arms gave."""

    scenario: Scenario
    concurrency: int
    turns: dict[str, Turns]

    @property
    def ratios(self) -> list[Ratio]:
        """The scenario's comparisons."""
        return [compare(comparison, self.turns) for comparison in self.scenario.comparisons]

    @property
    def is_clean(self) -> bool:
        """Whether every answer was right."""
        return all(turns.verdict.is_clean for turns in self.turns.values())


def as_table(result: Result) -> str:
    """One scenario, for reading."""
    lines = ["", f"{result.scenario.name}: {result.scenario.title}"]
    lines.append(" ".join(name.rjust(width) for name, width in _COLUMNS).rstrip())
    for name, turns in result.turns.items():
        lines += _arm_lines(name, turns, result.concurrency)
    lines += [_ratio_line(ratio) for ratio in result.ratios]
    return "\n".join(lines)


def as_json(results: Sequence[Result], plan: Plan, load_before: tuple[float, float, float]) -> dict[str, Any]:
    """The whole run. Times in milliseconds, CPU in microseconds for each right answer."""
    return {
        "schema": "headrace.loadtests/v1",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "load_average_before": load_before,
            "load_average_after": os.getloadavg(),
        },
        "plan": {"rounds": plan.rounds, "requests": plan.requests, "concurrency": plan.concurrency},
        "clean": all(result.is_clean for result in results),
        "scenarios": [_scenario_json(result) for result in results],
    }


def _arm_lines(name: str, turns: Turns, concurrency: int) -> list[str]:
    latencies, verdict = turns.latencies_s, turns.verdict
    cells = [
        name,
        str(concurrency),
        f"{turns.rate:.0f}",
        *(f"{percentile(latencies, percent) * 1e3:.2f}" for percent in _PERCENTILES),
        *map(str, (verdict.right, verdict.wrong, verdict.lost, verdict.repeated)),
    ]
    lines = [" ".join(cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))]
    cpu = sorted(turns.cpu_us_per_answer.items(), key=lambda item: -item[1])
    loud = [f"{process} {used_us:.0f}" for process, used_us in cpu if used_us >= _QUIET_US]
    lines.append(f"{'':16} CPU us/answer: {', '.join(loud) or 'not measured'}")
    if firsts := turns.firsts_s:
        first_ms = [f"p{percent} {percentile(firsts, percent) * 1e3:.2f}" for percent in _PERCENTILES]
        lines.append(f"{'':16} first chunk ms: {', '.join(first_ms)}; chunks/s: {turns.chunk_rate:.0f}")
    if verdict.example:
        lines.append(f"{'':16} first bad answer: {verdict.example}")
    return lines


def _ratio_line(ratio: Ratio) -> str:
    what, goal = ratio.comparison, ""
    if what.goal is not None:
        sign = ">=" if what.measure == "rate" else "<="
        goal = f"; goal {sign} {what.goal}: {'met' if ratio.is_met else 'MISSED'}"
    unit = "req/s" if what.measure == "rate" else "p50"
    return (
        f"  {what.arm} / {what.base}, {unit}: {ratio.median:.2f} "
        f"(rounds {ratio.lowest:.2f} to {ratio.highest:.2f}){goal}"
    )


def _scenario_json(result: Result) -> dict[str, Any]:
    return {
        "name": result.scenario.name,
        "concurrency": result.concurrency,
        "arms": {name: _arm_json(turns) for name, turns in result.turns.items()},
        "ratios": [
            {
                "arm": ratio.comparison.arm,
                "base": ratio.comparison.base,
                "measure": ratio.comparison.measure,
                "median": _number(ratio.median),
                "lowest": _number(ratio.lowest),
                "highest": _number(ratio.highest),
                "goal": ratio.comparison.goal,
                "met": ratio.is_met,
            }
            for ratio in result.ratios
        ],
    }


def _arm_json(turns: Turns) -> dict[str, Any]:
    verdict = turns.verdict
    found: dict[str, Any] = {
        "requests_per_s": _number(turns.rate),
        "requests_per_s_by_round": [_number(one.rate) for one in turns.rounds],
        "latency_ms": _percentiles_ms(turns.latencies_s),
        "cpu_us_per_answer": {name: _number(us) for name, us in turns.cpu_us_per_answer.items()},
        "answers": {
            "asked": verdict.asked,
            "right": verdict.right,
            "wrong": verdict.wrong,
            "lost": verdict.lost,
            "repeated": verdict.repeated,
        },
        "first_bad_answer": verdict.example,
    }
    if firsts := turns.firsts_s:
        found["first_chunk_ms"] = _percentiles_ms(firsts)
        found["chunks_per_s"] = _number(turns.chunk_rate)
    return found


def _percentiles_ms(values_s: Sequence[float]) -> dict[str, float | None]:
    return {f"p{percent}": _number(percentile(values_s, percent) * 1e3) for percent in _PERCENTILES}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
