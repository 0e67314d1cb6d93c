"""Files whose time is over leave the bucket, and then the database."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final

from headrace.contracts.errors import HeadraceError
from headrace.core.files import ObjectStore
from headrace.dispatcher.batch_parts import FileStore

_log = logging.getLogger(__name__)

_INTERVAL_S: Final = 60.0
_AT_ONCE: Final = 100


class FileRemoval:
    """Removes; an object whose file nobody knows is not made: the row comes first and goes last."""

    def __init__(self, files: FileStore, objects: ObjectStore) -> None:
        self._files = files
        self._objects = objects

    async def run(self, stop: asyncio.Event) -> None:
        """Remove now and then until `stop` is set."""
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_S):
                    await stop.wait()
            try:
                while not stop.is_set() and await self.once():
                    pass
            except HeadraceError as error:
                _log.warning("expired files stay for now: %s", error)

    async def once(self) -> int:
        """Remove some; returns how many. Repeat until it returns 0.

        Raises:
            Unavailable: bucket or database do not serve.
        """
        due = await self._files.due(time.time(), _AT_ONCE)
        for file in due:
            await self._objects.remove(file.object_key)
            await self._files.forget(file.id)
        return len(due)
