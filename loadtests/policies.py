"""`python -m loadtests.policies`: GPU hours and waiting of policies of scaling, in virtual time.

Four made-up patterns, and a recorded hour where `--trace` names one, each with cold starts of 30 and 300 s:
our scaler's decisions beside KEDA's rule, with its default threshold and two that are tuned to the slots, and
an oracle that knows what will come. Goals: at most 0.7 of KEDA's GPU hours with no longer a wait (p95), and
at most 1.15 of the oracle's. Met or missed, each row says so. Needs no Kafka.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from headrace.cli.arrivals import Speed, read
from headrace.cli.comparison import Setup, compare, total
from headrace.cli.patterns import PATTERNS, jobs
from headrace.contracts.errors import SetupError
from headrace.core.simulation import Job, Outcome, Site
from headrace.core.sizing import Dials

_HOUR_S: Final = 3600.0
_WORK_S: Final = 1.0
_SPEED: Final = Speed(prompt=4000.0, output=400.0)
_COLD_STARTS_S: Final = (30.0, 300.0)
_DIALS: Final = Dials(0, 24, utilization=0.8, drain_target_s=30.0)
_THRESHOLDS: Final = (10.0, 16.0, 32.0)
"""KEDA's default; as many as a worker has slots; twice as many."""
_OF_KEDA: Final = 0.7
_OF_ORACLE: Final = 1.15
_SAME: Final = 1.01
_SAME_S: Final = 0.5
"""A wait that is longer by a hundredth and so much is as long."""
_ROW: Final = "{:8} {:>5} " + "{:>22} " * 5 + " {:>5} {:>6}  {}"


@dataclass(frozen=True, slots=True)
class Shape:
    """Arrivals of so many hours and requests a second; without them, a recorded file."""

    name: str
    hours: float = 0.0
    per_s: float = 0.0
    path: Path | None = None

    def jobs(self, seed: int) -> list[Job]:
        """What comes."""
        if self.path is not None:
            return read(self.path, _SPEED)
        return jobs(PATTERNS[self.name](self.hours * _HOUR_S, self.per_s, seed), _WORK_S, seed)


SHAPES: Final = (
    Shape("steady", 4, 2.0),
    Shape("daily", 24, 2.0),
    Shape("bursts", 6, 0.5),
    Shape("sparse", 24, 0.02),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One row. seeds: of a pattern; their hours are added up, their waits put together."""

    shape: Shape
    cold_start_s: float
    slots: int
    seeds: int
    dials: Dials = _DIALS

    def outcomes(self) -> dict[str, Outcome]:
        """Of each policy."""
        return total([self._outcomes(seed) for seed in range(1, self.seeds + 1)])

    def _outcomes(self, seed: int) -> dict[str, Outcome]:
        work = self.shape.jobs(seed)
        until_s = work[-1].at_s if self.shape.path is not None else self.shape.hours * _HOUR_S
        mean_s = sum(job.work_s for job in work) / len(work)
        setup = Setup(Site(self.slots, self.cold_start_s), self.dials, work_s=mean_s)
        found = compare(work, setup, ("headrace", "oracle"), until_s)
        for threshold in _THRESHOLDS:
            tuned = replace(setup, keda_threshold=threshold)
            found[f"keda {threshold:g}"] = compare(work, tuned, ("keda",), until_s)["keda"]
        return found


def row(case: Case, found: Mapping[str, Outcome]) -> str:
    """Figures and verdict."""
    ours, keda, oracle = found["headrace"], found["keda 10"], found["oracle"]
    of_keda, of_oracle = ours.gpu_s / keda.gpu_s, ours.gpu_s / oracle.gpu_s
    missed = [
        what
        for what, is_missed in (
            ("hours", of_keda > _OF_KEDA),
            ("wait", ours.wait_s(0.95) > _SAME * keda.wait_s(0.95) + _SAME_S),
            ("oracle", of_oracle > _OF_ORACLE),
        )
        if is_missed
    ]
    names = ("headrace", *(f"keda {threshold:g}" for threshold in _THRESHOLDS), "oracle")
    return _ROW.format(
        case.shape.name,
        f"{case.cold_start_s:g}",
        *(_cell(found[name]) for name in names),
        f"{of_keda:.2f}",
        f"{of_oracle:.2f}",
        "missed: " + ", ".join(missed) if missed else "met",
    )


def _cell(outcome: Outcome) -> str:
    return f"{outcome.gpu_s / _HOUR_S:.1f} h {outcome.wait_s(0.5):.0f} / {outcome.wait_s(0.95):.1f} s"


def _run(case: Case) -> str:
    return row(case, case.outcomes())


def _cases(given: argparse.Namespace) -> Iterator[Case]:
    shapes = [replace(shape, per_s=shape.per_s * given.scale) for shape in SHAPES]
    dials = replace(_DIALS, utilization=given.utilization)
    for cold_start_s in _COLD_STARTS_S:
        for shape in shapes:
            yield Case(shape, cold_start_s, given.slots, given.seeds, dials)
        if given.trace is not None:
            yield Case(Shape("recorded", path=given.trace), cold_start_s, given.slots, 1, dials)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.policies")
    parser.add_argument("--trace", type=Path, help="CSV of time, prompt tokens, generated tokens")
    parser.add_argument("--slots", type=int, default=16, help="requests that a worker runs at once")
    parser.add_argument("--seeds", type=int, default=1, help="so many times each pattern")
    parser.add_argument("--scale", type=float, default=1.0, help="times the patterns' requests a second")
    parser.add_argument(
        "--utilization",
        type=float,
        default=_DIALS.utilization,
        help="of a worker's time that is planned with",
    )
    given = parser.parse_args()
    shapes = "; ".join(
        f"{shape.name} {shape.hours:g} h, {shape.per_s * given.scale:g}/s on average" for shape in SHAPES
    )
    sys.stdout.write(
        f"{shapes}; {given.seeds} seeds.\nWork: {_WORK_S:g} s of a full worker (exponential); of a recorded "
        f"request prompt tokens / {_SPEED.prompt:g} + generated tokens / {_SPEED.output:g} s.\n{given.slots} "
        f"slots, at most {_DIALS.max_workers} workers, utilization {given.utilization:g}, drain target "
        f"{_DIALS.drain_target_s:g} s. Cells: GPU hours, wait p50 / p95.\n"
    )
    heads = ("headrace", *(f"KEDA {threshold:g}" for threshold in _THRESHOLDS), "oracle")
    sys.stdout.write(_ROW.format("arrivals", "cold", *heads, "/KEDA", "/oracle", "goals") + "\n")
    cases = list(_cases(given))
    with ProcessPoolExecutor(2) as pool:
        try:
            for line in pool.map(_run, cases):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
        except SetupError as error:
            raise SystemExit(f"policies: {error}") from None


if __name__ == "__main__":
    main()
