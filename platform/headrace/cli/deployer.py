"""What deploying a function is: its package is stored, its topics are made, everyone is told."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Self

import typer

from headrace.contracts.errors import SetupError
from headrace.contracts.events import ModelDeployed
from headrace.contracts.topics import slug
from headrace.core.deployments import is_crossed
from headrace.core.ports import Outgoing, Record
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.registry.cache import FunctionCache, package_key
from headrace.registry.function import Package
from headrace.registry.s3 import Bucket
from headrace.settings import Settings

_COMPOSITE: Final = (12, 24, 60, 120, 240, 360, 720)
_BACK_S: Final = 60.0
"""Longer than another scaler takes to act in place of one that has died."""
_POLL_S: Final = 1.0


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
        models = self._settings.kafka.topics.models
        async with PartitionReader(self._settings.kafka, {models: None}) as reader:
            log = _Log(reader)
            await log.look()
            await (storing or _store(self._settings, packages))
            return [await self._announce(package, log) for package in packages]

    async def _announce(self, package: Package, log: "_Log") -> ModelDeployed:
        """Tell of it so that it stays told; `scaler.removals` says what may come between."""
        manifest = package.manifest
        while True:
            await log.look()
            other = log.names.get(slug(manifest.name), manifest.name)
            if other != manifest.name:
                raise SetupError(
                    f"Model '{manifest.name}' cannot be told from '{other}': they differ only in case"
                )
            if not log.is_retiring(manifest.name):
                event, offset = await self._put_up(package, is_new=manifest.name not in log.values)
                if not is_crossed(await log.look(), manifest.name, offset):
                    return event
            back = await self._ask_back(package, log)
            if back is not None:
                return back

    async def _put_up(self, package: Package, *, is_new: bool) -> tuple[ModelDeployed, int]:
        """It takes requests from now on; where that is written."""
        topics = self._settings.kafka.topics
        event = self._event(package)
        plans = topics.request_plans(event.slug, event.partitions)
        # One that has just gone may have left the names of its topics.
        await (self._admin.renew_topics(plans) if is_new else self._admin.ensure_topics(plans))
        await self._admin.commit_initial_offsets(topics.group(event.slug), plans)
        # The topic may be older than today's setting.
        partitions = await self._producer.partitions(plans[0].name) or event.partitions
        event = event.model_copy(update={"partitions": partitions})
        return event, await self._tell(event)

    async def _ask_back(self, package: Package, log: "_Log") -> ModelDeployed | None:
        """It takes requests once the scaler has seen to its topics. None: another one does by now.

        Raises:
            SetupError: it was undeployed again, or no scaler answers.
        """
        name = package.manifest.name
        event = self._event(package).model_copy(update={"retiring": True, "returning": True})
        offset = await self._tell(event)
        typer.echo(f"{name} is being removed: the scaler brings it back", err=True)
        try:
            async with asyncio.timeout(_BACK_S):
                while True:
                    for record in await log.poll():
                        if record.key != name.encode() or record.place.offset <= offset or not record.value:
                            continue
                        now = ModelDeployed.decode(record.value)
                        if now.is_leaving:
                            raise SetupError(f"'{name}' was undeployed again meanwhile")
                        if not now.retiring:
                            return now if now.version == event.version else None
        except TimeoutError:
            raise SetupError(
                f"'{name}' is being removed, and no scaler has brought it back within {_BACK_S:g} s; "
                "the next one that acts does"
            ) from None

    def _event(self, package: Package) -> ModelDeployed:
        settings, manifest = self._settings, package.manifest
        return ModelDeployed(
            name=manifest.name,
            slug=slug(manifest.name),
            version=package.version,
            package_url=f"s3://{settings.s3.bucket}/{package_key(package.version)}",
            manifest=manifest,
            partitions=partitions_for(manifest.scaling.max_workers, settings.kafka.partitions),
            deployed_at_s=time.time(),
        )

    async def _tell(self, event: ModelDeployed) -> int:
        record = Outgoing(self._settings.kafka.topics.models, event.encode(), event.name.encode())
        return (await (await self._producer.send(record))).offset


class _Log:
    """The topic `models`, read on. values: what is there, by name. names: by slug."""

    def __init__(self, reader: PartitionReader) -> None:
        self._reader = reader
        self.values: dict[str, bytes] = {}
        self.names: dict[str, str] = {}

    async def look(self) -> Sequence[Record]:
        """Take in all that is new."""
        return self._take(await self._reader.read_to_end())

    async def poll(self) -> Sequence[Record]:
        """Take in what comes within a moment."""
        return self._take(await self._reader.poll(_POLL_S))

    def is_retiring(self, name: str) -> bool:
        """Whether it is to go, or comes back."""
        value = self.values.get(name)
        return value is not None and ModelDeployed.decode(value).retiring

    def _take(self, records: Sequence[Record]) -> Sequence[Record]:
        for record in records:
            name = (record.key or b"").decode()
            if record.value is None:
                self.values.pop(name, None)
                self.names.pop(slug(name), None)
            else:
                self.values[name] = record.value
                self.names[slug(name)] = name
        return records


def partitions_for(max_workers: int, least: int) -> int:
    """Partitions of a lane: two for each worker, of a number that many numbers of workers share evenly."""
    wanted = 2 * max_workers if max_workers > 1 else 1
    return next((number for number in (least, *_COMPOSITE) if number >= max(wanted, least)), wanted)


async def _store(settings: Settings, packages: Sequence[Package]) -> None:
    await Bucket(settings.s3).add({package_key(package.version): package.data for package in packages})
    cache = FunctionCache(settings)
    for package in packages:
        cache.put(package)
