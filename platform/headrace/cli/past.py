"""The scaler's decisions, as commands read them from Kafka."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

from headrace.cli.target import no_answer
from headrace.contracts.errors import SetupError
from headrace.core.ports import Record
from headrace.kafka.reader import PartitionReader
from headrace.settings import Settings

_CONNECT_S: Final = 10.0
_PATIENCE_S: Final = 30.0


@asynccontextmanager
async def decisions(settings: Settings, at: Literal["beginning"] | int) -> AsyncIterator[PartitionReader]:
    """A reader of them.

    Raises:
        SetupError: Kafka does not answer.
    """
    reader = PartitionReader(settings.kafka, {settings.kafka.topics.decisions: None}, at=at)
    try:
        async with asyncio.timeout(_CONNECT_S):
            await reader.start()
    except TimeoutError:
        raise no_answer(settings) from None
    try:
        yield reader
    finally:
        await reader.stop()


async def all_of(reader: PartitionReader) -> AsyncIterator[Sequence[Record]]:
    """What is there now, piece by piece: those of a week may be a million.

    Raises:
        SetupError: nothing more comes.
    """
    try:
        while records := await asyncio.wait_for(_more(reader), _PATIENCE_S):
            yield records
    except TimeoutError:
        raise SetupError(f"Kafka has not answered for {_PATIENCE_S:g} s") from None


async def _more(reader: PartitionReader) -> Sequence[Record]:
    """None at the end."""
    while not await reader.is_at_end():
        if records := await reader.poll(1.0):
            return records
    return ()
