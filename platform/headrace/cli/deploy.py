"""`headrace deploy`: a function's folder becomes a model that answers."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, settings_for
from headrace.contracts.errors import SetupError
from headrace.contracts.events import ModelDeployed
from headrace.contracts.topics import LANES, slug
from headrace.core.ports import Outgoing
from headrace.devstack.probe import get
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.registry.cache import FunctionCache, package_key
from headrace.registry.function import Package, pack
from headrace.registry.s3 import Bucket, preload
from headrace.settings import Settings

_POLL_S: Final = 0.05


def deploy(
    paths: Annotated[list[Path], typer.Argument(help="Folders with a function.yaml.")],
    *,
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


async def _until_s3_answers(settings: Settings) -> None:
    """The stack starts us together with its S3 server."""
    address = urlsplit(settings.s3.endpoint_url or "")
    while address.port and not (await get(address.port, "/")).status:
        await asyncio.sleep(_POLL_S)


async def deploy_all(settings: Settings, packages: Sequence[Package]) -> list[ModelDeployed]:
    """Deploy packed functions, in order.

    Raises:
        SetupError: two names that differ only in case, or S3 or Kafka refuse.
    """
    # Both take a second, mostly for connecting; nothing is announced before both are done.
    storing = asyncio.create_task(_store(settings, packages))
    try:
        async with Admin(settings.kafka) as admin:
            await admin.ensure_topics(settings.kafka.topics.shared_plans())
            producer = Producer(settings.kafka, source="deploy")
            await producer.start()
            try:
                taken = await _names(settings)
                await storing
                return [await _announce(settings, package, taken, admin, producer) for package in packages]
            finally:
                await producer.stop()
    finally:
        storing.cancel()
        await asyncio.gather(storing, return_exceptions=True)


async def _store(settings: Settings, packages: Sequence[Package]) -> None:
    await Bucket(settings.s3).add({package_key(package.version): package.data for package in packages})
    cache = FunctionCache(settings)
    for package in packages:
        cache.put(package)


async def _names(settings: Settings) -> dict[str, str]:
    """Deployed names by slug."""
    async with PartitionReader(settings.kafka, {settings.kafka.topics.models: None}) as reader:
        names: dict[str, str] = {}
        for record in await reader.read_to_end():
            name = (record.key or b"").decode()
            if record.value is None:
                names.pop(slug(name), None)
            else:
                names[slug(name)] = name
        return names


async def _announce(
    settings: Settings, package: Package, taken: dict[str, str], admin: Admin, producer: Producer
) -> ModelDeployed:
    topics, manifest = settings.kafka.topics, package.manifest
    model_slug = slug(manifest.name)
    other = taken.setdefault(model_slug, manifest.name)
    if other != manifest.name:
        raise SetupError(f"Model '{manifest.name}' cannot be told from '{other}': they differ only in case")
    plans = topics.request_plans(model_slug, settings.kafka.partitions)
    await admin.ensure_topics(plans)
    await admin.commit_initial_offsets(topics.group(model_slug), plans)
    event = ModelDeployed(
        name=manifest.name,
        slug=model_slug,
        version=package.version,
        package_url=f"s3://{settings.s3.bucket}/{package_key(package.version)}",
        manifest=manifest,
        # The topic may be older than today's setting.
        partitions=await producer.partitions(plans[0].name),
        deployed_at_s=time.time(),
    )
    receipt = await producer.send(Outgoing(topics.models, event.encode(), manifest.name.encode()))
    await receipt
    return event
