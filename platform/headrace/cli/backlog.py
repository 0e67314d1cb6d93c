"""`headrace backlog`: what is still to be done, by model and lane."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
import typer

from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, no_answer, settings_for
from headrace.contracts.errors import SetupError
from headrace.contracts.topics import slug, unslug
from headrace.kafka.admin import Admin
from headrace.kafka.backlog import PartitionBacklog
from headrace.settings import Settings

_ANSWER_S: Final = 10.0
_WATCH_S: Final = 2.0
_HEAD: Final = ("model", "lane", "backlog", "lag", "partitions")
_CLEAR: Final = "\x1b[H\x1b[J"


def backlog(
    model: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Count the requests of each model and lane that wait or run.

    Models that cannot be read are named on standard error, and the command fails.
    """
    settings = settings_for(data_dir)
    model_slug = None if model is None else slug(model)
    try:
        asyncio.run(_show(settings, model_slug, watch=watch, as_json=as_json))
    except KeyboardInterrupt:
        if not watch:
            raise


async def _show(settings: Settings, model_slug: str | None, *, watch: bool, as_json: bool) -> None:
    admin = Admin(settings.kafka)
    try:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await admin.start()
        except TimeoutError:
            raise no_answer(settings) from None
        while True:
            read = await admin.backlog(model_slug)
            found = rows(read.rows)
            if not found and not read.faults and model_slug is not None:
                raise SetupError(
                    f"There is no model '{unslug(model_slug)}'; `headrace models` lists what is deployed"
                )
            _print(found, read.faults, watch=watch, as_json=as_json)
            if not watch:
                if read.faults:
                    raise typer.Exit(1)
                return
            await asyncio.sleep(_WATCH_S)
    finally:
        await admin.stop()


def rows(found: Sequence[PartitionBacklog]) -> list[dict[str, Any]]:
    """One for each model and lane, with its partitions."""
    by_lane: dict[tuple[str, str], list[PartitionBacklog]] = {}
    for part in found:
        by_lane.setdefault((unslug(part.model_slug), part.lane), []).append(part)
    return [
        {
            "model": model,
            "lane": lane,
            "backlog": sum(part.requests for part in parts),
            "lag": sum(part.lag for part in parts),
            "partitions": [
                {"partition": part.partition, "backlog": part.requests, "lag": part.lag} for part in parts
            ],
        }
        for (model, lane), parts in by_lane.items()
    ]


def table(found: Sequence[dict[str, Any]]) -> str:
    """The rows for people: numbers to the right, and how many partitions rather than which."""
    cells = [_HEAD]
    for row in found:
        numbers = (row["backlog"], row["lag"], len(row["partitions"]))
        cells.append((row["model"], row["lane"], *map(str, numbers)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        f"{model:{widths[0]}}  {lane:{widths[1]}}  "
        + "  ".join(f"{number:>{width}}" for number, width in zip(numbers, widths[2:], strict=True))
        for model, lane, *numbers in cells
    )


def _print(found: Sequence[dict[str, Any]], faults: Mapping[str, str], *, watch: bool, as_json: bool) -> None:
    if watch and not as_json and sys.stdout.isatty():
        typer.echo(_CLEAR, nl=False)
    if as_json:
        typer.echo(orjson.dumps(found))
    elif found:
        typer.echo(table(found))
    elif not faults:
        typer.echo("No models.", err=True)
    for model_slug, fault in sorted(faults.items()):
        typer.echo(f"{unslug(model_slug)} cannot be read: {fault}", err=True)
