"""`headrace keys`: who may call."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer

from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, stack_state
from headrace.contracts.errors import SetupError
from headrace.core.keys import (
    ENTROPY_BYTES,
    SHOWN_CHARS,
    ApiKey,
    Scope,
    digest,
    duration_s,
    scopes_of,
    text_of,
)
from headrace.core.limits import TenantLimits
from headrace.settings import DatabaseSettings, given, load
from headrace.store.late import Stores

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

_MAX_TENANT_BYTES = 256
_T = TypeVar("_T")


@app.command()
def create(
    *,
    name: Annotated[str, typer.Option("--name", help="What it is for, for you to know it again.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose requests it makes; empty: nobody's.")] = "",
    scopes: Annotated[
        str, typer.Option("--scopes", help=f"What it is for, with commas between: {', '.join(Scope)}.")
    ] = Scope.ALL.value,
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", help="Such as 12h or 30d; without it, never.")
    ] = None,
    rate_per_s: Annotated[
        float | None, typer.Option("--rate-per-s", min=0.001, help="A limit of its own.")
    ] = None,
    burst: Annotated[int | None, typer.Option("--burst", min=1, help="Requests at once.")] = None,
    tokens_per_min: Annotated[
        int | None, typer.Option("--tokens-per-min", min=1, help="A limit of its own.")
    ] = None,
    max_waiting: Annotated[
        int | None, typer.Option("--max-waiting", min=1, help="A limit of its own.")
    ] = None,
    requests_per_day: Annotated[
        int | None, typer.Option("--requests-per-day", min=1, help="A quota of its own.")
    ] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option("--tokens-per-day", min=1, help="A quota of its own.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a key and print it, this once."""
    if len(tenant.encode()) > _MAX_TENANT_BYTES:
        raise SetupError(f"A tenant has at most {_MAX_TENANT_BYTES} bytes")
    limits = TenantLimits(max_waiting, rate_per_s, burst, tokens_per_min, requests_per_day, tokens_per_day)
    text, now_s = text_of(os.urandom(ENTROPY_BYTES)), time.time()
    key = ApiKey(
        id=f"key_{os.urandom(12).hex()}",
        tenant=tenant,
        name=name,
        prefix=text[:SHOWN_CHARS],
        sha256=digest(text.encode()),
        scopes=scopes_of(scopes.split(",")),
        created_at_s=now_s,
        expires_at_s=None if expires_in is None else now_s + duration_s(expires_in),
        limits=limits if limits.is_any else None,
    )
    _run(data_dir, lambda stores: stores.written_keys.add(key))
    if as_json:
        typer.echo(orjson.dumps(_shown(key, now_s) | {"key": text}))
        return
    typer.echo(text)
    typer.echo("This is shown once: keep it. Gateways know it within seconds.", err=True)


@app.command(name="list")
def list_(*, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List keys, those that open nothing any more too."""
    now_s = time.time()
    found = [_shown(key, now_s) for key in _run(data_dir, lambda stores: stores.written_keys.all())]
    if as_json:
        typer.echo(orjson.dumps(found))
        return
    if not found:
        typer.echo("No keys.", err=True)
        return
    columns = ("id", "key", "name", "tenant", "scopes", "state", "expires")
    cells = [columns, *([_cell(row[column]) for column in columns] for row in found)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        typer.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `headrace keys list` shows it.")],
    *,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Let a key open nothing any more."""
    if not _run(data_dir, lambda stores: stores.written_keys.revoke(key_id, time.time())):
        raise SetupError(f"There is no key '{key_id}': `headrace keys list` shows them")
    typer.echo(f"{key_id} is revoked; gateways know it within seconds.", err=True)


def _shown(key: ApiKey, now_s: float) -> dict[str, Any]:
    over = key.expires_at_s
    return {
        "id": key.id,
        "key": f"{key.prefix}…",
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "state": key.state(now_s),
        "expires": None if over is None else datetime.fromtimestamp(over, UTC).isoformat(timespec="seconds"),
        "limits": {} if key.limits is None else key.limits.given(),
    }


def _cell(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value or "-")


def _run(data_dir: Path, work: Callable[[Stores], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        stores = Stores(_database(data_dir))
        try:
            return await work(stores)
        finally:
            await stores.close()

    return asyncio.run(run())


def _database(data_dir: Path) -> DatabaseSettings:
    """Only the database is needed: no stack has to run, nor Kafka."""
    state = stack_state(data_dir)
    if state is None and "HEADRACE_DATABASE_URL" not in given():
        raise SetupError(
            f"No stack has run in {data_dir}: start one with `headrace up --data-dir {data_dir}`, "
            "or set HEADRACE_DATABASE_URL"
        )
    return load(defaults={} if state is None else state.get("environment", {})).database
