"""From rounds to figures: percentiles, medians of rounds, ratios of neighbours."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.answers import Verdict
from loadtests.scenarios import Comparison


@dataclass(slots=True)
class Round:
    """What one round of one arm gave. `cpu_s` by process."""

    wall_s: float
    verdict: Verdict
    latencies_s: list[float]
    firsts_s: list[float] = field(default_factory=list)
    chunks: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return self.verdict.right / self.wall_s if self.wall_s else 0.0

    @property
    def p50_s(self) -> float:
        """Median latency."""
        return percentile(self.latencies_s, 50)


@dataclass(slots=True)
class Turns:
    """All that one arm did in a scenario. `verdict` counts the warm-up too, `rounds` do not."""

    rounds: list[Round] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def latencies_s(self) -> list[float]:
        """Of all measured answers."""
        return [value for one in self.rounds for value in one.latencies_s]

    @property
    def firsts_s(self) -> list[float]:
        """Until the first chunk, of all measured streams."""
        return [value for one in self.rounds for value in one.firsts_s]

    @property
    def rate(self) -> float:
        """Right answers a second, in the median round."""
        return median([one.rate for one in self.rounds])

    @property
    def chunk_rate(self) -> float:
        """Chunks a second, in the median round."""
        return median([one.chunks / one.wall_s for one in self.rounds])

    @property
    def cpu_us_per_answer(self) -> dict[str, float]:
        """Microseconds of CPU time for each right answer, by process."""
        right = sum(one.verdict.right for one in self.rounds)
        total: dict[str, float] = {}
        for one in self.rounds:
            for name, used_s in one.cpu_s.items():
                total[name] = total.get(name, 0.0) + used_s
        return {name: used_s * 1e6 / right for name, used_s in total.items()} if right else {}


@dataclass(frozen=True, slots=True)
class Ratio:
    """A comparison's outcome: the median of the rounds' ratios, and their range."""

    comparison: Comparison
    median: float
    lowest: float
    highest: float

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        goal = self.comparison.goal
        if goal is None or math.isnan(self.median):
            return None if goal is None else False
        return self.median >= goal if self.comparison.measure == "rate" else self.median <= goal


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all are not above (nearest rank); NaN of nothing."""
    if not values:
        return math.nan
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def median(values: Sequence[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(values) if values else math.nan


def compare(comparison: Comparison, turns: dict[str, Turns]) -> Ratio:
    """Each round against the base's round beside it: what slowed the machine then slowed both."""
    pairs = zip(turns[comparison.arm].rounds, turns[comparison.base].rounds, strict=True)
    if comparison.measure == "rate":
        ratios = [mine.rate / base.rate for mine, base in pairs if base.rate]
    else:
        ratios = [mine.p50_s / base.p50_s for mine, base in pairs if base.p50_s]
    nothing = [math.nan]
    return Ratio(comparison, median(ratios), min(ratios or nothing), max(ratios or nothing))
