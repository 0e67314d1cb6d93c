"""What policies of scaling would have cost, in virtual time: on made-up or recorded arrivals, or our past."""

import asyncio
import contextlib
import math
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer

from headrace.cli import arrivals, comparison, past
from headrace.cli.comparison import POLICIES, Setup
from headrace.cli.patterns import PATTERNS, jobs
from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, settings_for
from headrace.contracts.decisions import Decision
from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.core import history
from headrace.core.simulation import Job, Outcome, Site
from headrace.core.sizing import Dials
from headrace.settings import Settings

_HOUR_S: Final = 3600.0

_Policies = Annotated[
    list[str] | None,
    typer.Option("--policy", help=f"One of {', '.join(POLICIES)}; again for more. All of them."),
]
_Plot = Annotated[Path | None, typer.Option("--plot", help="Draw it to this file (.svg, .png, .pdf).")]
_Utilization = Annotated[
    float, typer.Option(min=0.05, max=1, help="Of a worker's time that is planned with.")
]
_Drain = Annotated[
    float, typer.Option("--drain-target", min=0.1, help="A backlog shall be gone in so many seconds.")
]
_Idle = Annotated[float | None, typer.Option("--idle", min=0, help="Seconds without work until the last go.")]
_Threshold = Annotated[float, typer.Option("--keda-threshold", min=0.1, help="KEDA's lagThreshold.")]
_Most = Annotated[int, typer.Option("--max-workers", min=1, help="Of each model.")]
_Slots = Annotated[int, typer.Option(min=1, help="Requests that a worker runs at once.")]


def simulate(
    *,
    file: Annotated[
        Path | None, typer.Option("--arrivals", help="CSV of time, prompt tokens, generated tokens.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(help=f"Made-up arrivals: {', '.join(PATTERNS)}.")] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="Of a pattern.")] = 4.0,
    rate: Annotated[
        float, typer.Option(min=0.0001, help="Requests a second of a pattern, on average.")
    ] = 1.0,
    work: Annotated[
        float, typer.Option(min=0.0001, help="Seconds of a full worker for one, on average.")
    ] = 1.0,
    models: Annotated[int, typer.Option(min=1, help="So many models with a pattern each.")] = 1,
    seed: Annotated[int, typer.Option(help="Of a pattern.")] = 1,
    prompt_speed: Annotated[float, typer.Option(min=0.1, help="Prompt tokens/s of a full worker.")] = 4000.0,
    output_speed: Annotated[
        float, typer.Option(min=0.1, help="Generated tokens/s of a full worker.")
    ] = 400.0,
    slots: _Slots = 16,
    cold_start: Annotated[float, typer.Option(min=0, help="Seconds from the order to a warm worker.")] = 30.0,
    max_workers: _Most = 24,
    utilization: _Utilization = 0.8,
    drain_target: _Drain = 30.0,
    idle: _Idle = None,
    keda_threshold: _Threshold = 10.0,
    fixed: Annotated[
        int | None, typer.Option(min=0, help="Workers of `fixed`; else those of the peak.")
    ] = None,
    policy: _Policies = None,
    plot: _Plot = None,
    as_json: AsJson = False,
) -> None:
    """Compare policies of scaling on recorded or made-up arrivals, in virtual time."""
    if (file is None) == (pattern is None):
        raise SetupError("Name either --arrivals FILE or --pattern NAME")
    if pattern is not None and pattern not in PATTERNS:
        raise SetupError(f"There is no pattern '{pattern}'; there are {', '.join(PATTERNS)}")
    _finite(hours, rate, work, prompt_speed, output_speed, cold_start, drain_target, idle, keda_threshold)
    if plot is not None and models > 1:
        raise SetupError("--plot draws one model, not several")
    names = _checked(policy)
    dials = Dials(0, max_workers, utilization, drain_target)
    all_work: list[list[Job]] = []
    if file is not None:
        all_work.append(arrivals.read(file, arrivals.Speed(prompt_speed, output_speed)))
    else:
        make = PATTERNS[pattern or ""]
        all_work += [jobs(make(hours * _HOUR_S, rate, seed + n), work, seed + n) for n in range(models)]

    def run(each: list[Job]) -> dict[str, Outcome]:
        mean_s = sum(job.work_s for job in each) / len(each) if each else None
        setup = Setup(Site(slots, cold_start), dials, idle, keda_threshold, fixed, mean_s)
        until_s = each[-1].at_s if each and file is not None else hours * _HOUR_S
        return comparison.compare(each, setup, names, until_s)

    # One at a time: each model's moments are many.
    outcomes = run(all_work[0]) if len(all_work) == 1 else comparison.total(map(run, all_work))
    number = sum(map(len, all_work))
    sum_s = sum(job.work_s for each in all_work for job in each)
    told = f"{file.name if file else pattern}: {number} requests, {sum_s / _HOUR_S:.2f} hours of work"
    if len(all_work) > 1:
        told += f", {len(all_work)} models"
    _show(outcomes, f"{told}; cold start {cold_start:g} s, {slots} slots", plot, as_json=as_json)


def replay(
    model: Annotated[str, typer.Argument(help="The model whose past it is.")],
    *,
    max_workers: _Most = 24,
    slots: _Slots = 16,
    utilization: _Utilization = 0.8,
    drain_target: _Drain = 30.0,
    idle: _Idle = None,
    keda_threshold: _Threshold = 10.0,
    policy: _Policies = None,
    plot: _Plot = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Decide the recorded past of a model anew, by other dials and other policies."""
    _finite(drain_target, idle, keda_threshold)
    names = _checked(policy)
    decided = asyncio.run(_decisions(settings_for(data_dir), model))
    if len(decided) < 2:  # a time has two ends
        raise SetupError(f"The scaler has decided nothing about a model '{model}' yet")
    came = history.jobs(decided)
    if not came:
        raise SetupError(f"No request of '{model}' has been answered yet: what one costs is not known")
    mean_s = sum(job.work_s for job in came) / len(came)
    site = Site(slots, history.cold_start_s(decided))
    setup = Setup(site, Dials(0, max_workers, utilization, drain_target), idle, keda_threshold, None, mean_s)
    seconds = history.lasted_s(decided)
    outcomes = comparison.compare(came, setup, names, seconds)
    told = f"{model}: {len(came)} requests in {seconds / _HOUR_S:.2f} hours"
    spent = f"{history.spent_s(decided) / _HOUR_S:.3f} GPU hours were spent"
    _show(outcomes, f"{told}, {spent}; cold start {site.cold_start_s:.1f} s", plot, as_json=as_json)


def _finite(*numbers: float | None) -> None:
    if not all(math.isfinite(number or 0.0) for number in numbers):
        raise SetupError("Options take numbers that end")


def _checked(policies: list[str] | None) -> list[str]:
    for name in policies or ():
        if name not in POLICIES:
            raise SetupError(f"There is no policy '{name}'; there are {', '.join(POLICIES)}")
    return policies or list(POLICIES)


def _show(outcomes: dict[str, Outcome], title: str, plot: Path | None, *, as_json: bool) -> None:
    rows = comparison.rows(outcomes)
    if plot is not None:
        comparison.draw(outcomes, title, plot)
    if as_json:
        typer.echo(orjson.dumps(rows))
        return
    typer.echo(title)
    typer.echo(comparison.table(rows))


async def _decisions(settings: Settings, model: str) -> list[Decision]:
    """All that were made about the model, in their order."""
    found = []
    async with past.decisions(settings, "beginning") as reader:
        async for records in past.all_of(reader):
            for record in records:
                if record.key != model.encode() or record.value is None:
                    continue
                with contextlib.suppress(InvalidRequest):
                    found.append(Decision.decode(record.value))
    return found
