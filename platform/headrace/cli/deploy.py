"""`headrace deploy`: a function's folder becomes a model that answers."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from headrace.cli.deployer import deploy_all
from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, settings_for
from headrace.cli.watch import Watcher
from headrace.contracts.topics import LANES
from headrace.devstack.probe import get
from headrace.registry.function import pack
from headrace.registry.s3 import preload
from headrace.settings import Settings

_POLL_S: Final = 0.05


def deploy(
    paths: Annotated[list[Path], typer.Argument(help="Folders with a function.yaml.")],
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and deploy anew what changes.")] = False,
    await_s3: Annotated[bool, typer.Option("--await-s3", hidden=True, help="Wait for S3 to answer.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Deploy functions: store them, create their topics, tell everyone."""
    packages = [pack(path) for path in paths]
    settings = settings_for(data_dir)
    if await_s3:
        preload()
        asyncio.run(_until_s3_answers(settings))
    events = asyncio.run(deploy_all(settings, packages))
    for event in events:
        if as_json:
            typer.echo(event.encode())
        else:
            topic = settings.kafka.topics.requests(event.slug, LANES[1])
            typer.echo(f"deployed {event.name} version {event.version}; requests go to {topic}")
    if watch:
        with suppress(KeyboardInterrupt):
            asyncio.run(Watcher(settings, paths, lambda what: typer.echo(what, err=True)).run())


async def _until_s3_answers(settings: Settings) -> None:
    """The stack starts us together with its S3 server."""
    address = urlsplit(settings.s3.endpoint_url or "")
    while address.port and not (await get(address.port, "/")).status:
        await asyncio.sleep(_POLL_S)
