"""`headrace undeploy`: a model takes no more requests, works off what it has, and goes with its topics."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Annotated, Final

import typer

from headrace.cli.target import DEFAULT_DATA_DIR, DataDir, no_answer, settings_for
from headrace.contracts.errors import SetupError
from headrace.contracts.events import ModelDeployed
from headrace.core.deployments import latest
from headrace.core.ports import Outgoing
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import Settings

_CONNECT_S: Final = 10.0
_TELL_S: Final = 2.0


def undeploy(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    *,
    wait: Annotated[bool, typer.Option(help="Wait until it is gone.")] = True,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Remove a model: no more requests, those it has are answered, then its workers and topics go."""
    asyncio.run(_undeploy(settings_for(data_dir), model, wait=wait))


async def _undeploy(settings: Settings, model: str, *, wait: bool) -> None:
    topics = settings.kafka.topics
    async with AsyncExitStack() as stack:
        reader = PartitionReader(settings.kafka, {topics.models: None})
        try:
            async with asyncio.timeout(_CONNECT_S):
                await stack.enter_async_context(reader)
        except TimeoutError:
            raise no_answer(settings) from None
        deployed = latest(await reader.read_to_end(), model)
        if deployed is None:
            raise SetupError(f"There is no model '{model}'; `headrace models` lists what is deployed")
        producer = Producer(settings.kafka, source="undeploy")
        await producer.start()
        stack.push_async_callback(producer.stop)
        changes = {"retiring": True, "returning": False, "deployed_at_s": time.time()}
        event = deployed.model_copy(update=changes)
        await (await producer.send(Outgoing(topics.models, event.encode(), model.encode())))
        typer.echo(f"{model} takes no more requests")
        if wait:
            admin = await stack.enter_async_context(Admin(settings.kafka))
            await _until_gone(admin, reader, event)
            typer.echo(f"{model} is gone")


async def _until_gone(admin: Admin, reader: PartitionReader, event: ModelDeployed) -> None:
    told, fault = 0, ""
    while True:
        for record in await reader.poll(_TELL_S):
            if record.key != event.name.encode():
                continue
            if record.value is None:
                return
            if not ModelDeployed.decode(record.value).retiring:
                raise SetupError(f"'{event.name}' was deployed again meanwhile, and stays")
        found = await admin.backlog(event.slug)
        before, fault = fault, found.faults.get(event.slug, "")
        if fault and fault != before:
            typer.echo(f"what is still to be done cannot be read: {fault}", err=True)
        left = sum(part.requests for part in found.rows)
        if left and left != told:
            told = left
            typer.echo(f"{left} requests are still to be done", err=True)
