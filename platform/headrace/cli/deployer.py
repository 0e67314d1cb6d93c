"""What deploying a function is: its package is stored, its topics are made, everyone is told."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Self

from headrace.contracts.errors import SetupError
from headrace.contracts.events import ModelDeployed
from headrace.contracts.topics import slug
from headrace.core.ports import Outgoing
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.registry.cache import FunctionCache, package_key
from headrace.registry.function import Package
from headrace.registry.s3 import Bucket
from headrace.settings import Settings

_COMPOSITE: Final = (12, 24, 60, 120, 240, 360, 720)


async def deploy_all(settings: Settings, packages: Sequence[Package]) -> list[ModelDeployed]:
    """Deploy packed functions, in order; see `Deployer.deploy`."""
    # Both take a second, mostly for connecting; nothing is announced before both are done.
    storing = asyncio.create_task(_store(settings, packages))
    try:
        async with Deployer(settings) as deployer:
            return await deployer.deploy(packages, storing)
    finally:
        storing.cancel()
        await asyncio.gather(storing, return_exceptions=True)


class Deployer:
    """Deploys by connections that stay open; use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = Admin(settings.kafka)
        self._producer = Producer(settings.kafka, source="deploy")
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._admin)
        await self._admin.ensure_topics(self._settings.kafka.topics.shared_plans())
        await self._producer.start()
        self._open.push_async_callback(self._producer.stop)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.aclose()

    async def deploy(
        self, packages: Sequence[Package], storing: Awaitable[None] | None = None
    ) -> list[ModelDeployed]:
        """Store, create topics, and tell everyone; `storing` is the first of these when it has begun already.

        Raises:
            SetupError: two names that differ only in case, or S3 or Kafka refuse.
        """
        taken = await _names(self._settings)
        await (storing or _store(self._settings, packages))
        return [await self._announce(package, taken) for package in packages]

    async def _announce(self, package: Package, taken: dict[str, str]) -> ModelDeployed:
        settings, manifest = self._settings, package.manifest
        topics = settings.kafka.topics
        model_slug = slug(manifest.name)
        other = taken.setdefault(model_slug, manifest.name)
        if other != manifest.name:
            raise SetupError(
                f"Model '{manifest.name}' cannot be told from '{other}': they differ only in case"
            )
        partitions = partitions_for(manifest.scaling.max_workers, settings.kafka.partitions)
        plans = topics.request_plans(model_slug, partitions)
        await self._admin.ensure_topics(plans)
        await self._admin.commit_initial_offsets(topics.group(model_slug), plans)
        event = ModelDeployed(
            name=manifest.name,
            slug=model_slug,
            version=package.version,
            package_url=f"s3://{settings.s3.bucket}/{package_key(package.version)}",
            manifest=manifest,
            # The topic may be older than today's setting.
            partitions=await self._producer.partitions(plans[0].name),
            deployed_at_s=time.time(),
        )
        await (await self._producer.send(Outgoing(topics.models, event.encode(), manifest.name.encode())))
        return event


def partitions_for(max_workers: int, least: int) -> int:
    """Partitions of a lane: two for each worker, of a number that many numbers of workers share evenly."""
    wanted = 2 * max_workers if max_workers > 1 else 1
    return next((number for number in (least, *_COMPOSITE) if number >= max(wanted, least)), wanted)


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
