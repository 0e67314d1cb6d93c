"""Percentiles and ratios."""

import math

import pytest
from loadtests.answers import Verdict
from loadtests.measures import Round, Turns, compare, percentile
from loadtests.scenarios import Comparison


def round_(right: int, wall_s: float, latencies_s: list[float] | None = None, cpu_s: float = 0.0) -> Round:
    return Round(wall_s, Verdict(asked=right, right=right), latencies_s or [], cpu_s={"gateway": cpu_s})


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (95, 95), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentiles_by_nearest_rank(percent: float, expected: int) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


def test_percentiles_of_few_and_of_none() -> None:
    assert [percentile([7.0], percent) for percent in (1, 50, 99)] == [7.0] * 3
    assert percentile([1.0, 2.0], 50) == 1.0
    assert math.isnan(percentile([], 50))


def test_rates_are_compared_round_by_round() -> None:
    # The machine slowed to a third in the second round; the ratio does not see it.
    turns = {
        "a": Turns([round_(90, 1.0), round_(30, 1.0), round_(100, 1.0)]),
        "b": Turns([round_(100, 1.0), round_(33, 1.0), round_(100, 1.0)]),
    }

    ratio = compare(Comparison("a", "b", "rate", goal=0.8), turns)

    assert ratio.median == pytest.approx(30 / 33)
    assert (ratio.lowest, ratio.highest) == (0.9, 1.0)
    assert ratio.is_met


@pytest.mark.parametrize(
    ("measure", "goal", "met"), [("rate", 2.1, False), ("p50", 2.1, True), ("p50", 1.9, False)]
)
def test_goals_have_a_direction(measure: str, goal: float, met: bool) -> None:
    turns = {"a": Turns([round_(200, 1.0, [0.4, 0.4])]), "b": Turns([round_(100, 1.0, [0.2, 0.2])])}

    assert compare(Comparison("a", "b", measure, goal), turns).is_met is met  # type: ignore[arg-type]


def test_nothing_measured_meets_no_goal() -> None:
    turns = {"a": Turns([round_(0, 1.0)]), "b": Turns([round_(0, 1.0)])}

    assert compare(Comparison("a", "b", "rate", goal=0.8), turns).is_met is False
    assert compare(Comparison("a", "b", "rate"), turns).is_met is None


def test_cpu_time_is_for_each_right_answer() -> None:
    turns = Turns([round_(100, 1.0, cpu_s=0.01), round_(300, 1.0, cpu_s=0.03)])

    assert turns.cpu_us_per_answer == {"gateway": pytest.approx(100.0)}
    assert Turns([round_(0, 1.0, cpu_s=1.0)]).cpu_us_per_answer == {}
