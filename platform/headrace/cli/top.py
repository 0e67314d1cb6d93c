"""`headrace top`: what the scaler sees and decides, model by model, as it does."""

import asyncio
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import orjson
import typer

from headrace.cli import past
from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, settings_for
from headrace.contracts.decisions import Decision
from headrace.contracts.errors import InvalidRequest
from headrace.core.ports import Record
from headrace.settings import Settings

_LATEST: Final = 5_000
"""Decisions; more where they do not go back for long enough."""
_EACH_S: Final = 75.0
"""Each model is decided about at least once a minute, and a busy one every second."""
_REFRESH_S: Final = 1.0
_STALE_S: Final = 150.0
_CLEAR: Final = "\x1b[H\x1b[J"
_HEAD: Final = (
    *("model", "waiting", "running", "again", "oldest s", "tokens", "work s", "per s", "s each", "cold s"),
    *("workers", "target", "age"),
)
_REASON_CHARS: Final = 100


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print once and end.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show each model's work and workers, and why there are so many; until Ctrl-C."""
    try:
        asyncio.run(_show(settings_for(data_dir), once=once, as_json=as_json))
    except KeyboardInterrupt:
        if once:
            raise


async def _show(settings: Settings, *, once: bool, as_json: bool) -> None:
    number = _LATEST
    while not await _shown(settings, number, once=once, as_json=as_json):
        number *= 4


async def _shown(settings: Settings, number: int, *, once: bool, as_json: bool) -> bool:
    """Whether so many decisions say something of each model; if so, shows until it is ended."""
    async with past.decisions(settings, at=number) as reader:
        records = [record async for some in past.all_of(reader) for record in some]
        if not is_enough(records, number):
            return False
        latest: dict[str, Decision] = {}
        take(latest, records)
        while True:
            _print(latest, once=once, as_json=as_json)
            if once:
                return True
            take(latest, await reader.poll(_REFRESH_S))


def is_enough(records: Sequence[Record], asked: int) -> bool:
    """Whether they go back for so long that each model must be among them, or to the first of all."""
    if len(records) < asked:
        return True
    return records[-1].timestamp_ms - records[0].timestamp_ms > 1000 * _EACH_S


def take(latest: dict[str, Decision], records: Iterable[Record]) -> None:
    """The latest decision of each model."""
    for record in records:
        try:
            decision = Decision.decode(record.value or b"")
        except InvalidRequest:
            continue
        latest[decision.model] = decision


def table(decisions: Sequence[Decision], now_s: float) -> str:
    """For people: a line of numbers for each model, and under it the reason."""
    cells = [_HEAD, *(_cells(each, now_s) for each in decisions)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for number, (first, *rest) in enumerate(cells):
        padded = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        lines.append(f"{first:{widths[0]}}  " + "  ".join(padded))
        if number:
            decision = decisions[number - 1]
            lines.append(f"  {_one_line(decision.reason)[:_REASON_CHARS]}")
            if decision.unaccounted:
                lines.append(f"  {decision.unaccounted} requests are not accounted for")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    """The last words of a worker may have several, and a terminal's codes among them."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _cells(decision: Decision, now_s: float) -> tuple[str, ...]:
    crew = f"{decision.warm}"
    if decision.starting:
        crew += f"+{decision.starting}"
    if decision.draining:
        crew += f"-{decision.draining}"
    age_s = max(0.0, now_s - decision.at_s)
    return (
        decision.model,
        str(decision.waiting),
        str(decision.running),
        str(decision.retrying),
        "" if decision.oldest_s is None else f"{decision.oldest_s:.0f}",
        str(decision.backlog_tokens),
        "?" if decision.backlog_s is None else f"{decision.backlog_s:.1f}",
        f"{decision.arriving_per_s:.2f}",
        "?" if decision.work_s is None else f"{decision.work_s:.3g}",
        f"{decision.cold_start_s:.1f}",
        crew,
        str(decision.target),
        f"{age_s:.0f} s" + (" !" if age_s > _STALE_S else ""),
    )


def _print(latest: dict[str, Decision], *, once: bool, as_json: bool) -> None:
    found = [latest[model] for model in sorted(latest)]
    if as_json:
        rows: list[dict[str, Any]] = [each.model_dump(mode="json") for each in found]
        typer.echo(orjson.dumps(rows))
        return
    if not once and sys.stdout.isatty():
        typer.echo(_CLEAR, nl=False)
    if found:
        typer.echo(table(found, time.time()))
    else:
        typer.echo("The scaler has decided nothing yet.", err=True)
