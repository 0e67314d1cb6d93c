"""What is heard on `control`: cancels, obituaries, hand-overs."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

import orjson

from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import Cancel, Event, Handover, Obituary
from headrace.core.ports import Reader, Record

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_STEP_S: Final = 0.01
_CATCH_UP_S: Final = 5.0
_KINDS: Final[dict[str, type[Event]]] = {"cancel": Cancel, "obituary": Obituary, "handover": Handover}


class ControlReader(Reader, Protocol):
    """Reads `control`, and knows where it ends."""

    async def is_at_end(self) -> bool:
        """Whether everything that was written before the call has been polled."""
        ...


class Control:
    """Hands each event to who asked for its kind. `on` everything before `follow`."""

    def __init__(self, reader: ControlReader) -> None:
        self._reader = reader
        self._sinks: dict[type[Event], Callable[[Any, Record], object]] = {}

    def on(self, kind: type[Event], sink: Callable[[Any, Record], object]) -> None:
        """Hand events of this kind, and their records, to `sink`."""
        self._sinks[kind] = sink

    async def follow(self) -> None:
        """Read for ever."""
        while True:
            for record in await self._reader.poll(_POLL_S):
                self._take(record)

    async def catch_up(self) -> None:
        """Wait until all that was said before now has been heard; `follow` runs meanwhile."""
        try:
            async with asyncio.timeout(_CATCH_UP_S):
                while not await self._reader.is_at_end():
                    await asyncio.sleep(_STEP_S)
        except TimeoutError:
            _log.warning("control could not be read to its end; going on with what was heard")
        await asyncio.sleep(0)  # what was polled is taken in before we go on

    def _take(self, record: Record) -> None:
        if record.value is None:
            return
        try:
            said = orjson.loads(record.value)
            kind = _KINDS.get(str(said.get("kind"))) if isinstance(said, dict) else None
            if kind is not None and kind in self._sinks:
                self._sinks[kind](kind.decode(record.value), record)
        except (HeadraceError, orjson.JSONDecodeError) as error:
            _log.warning("control record at %s ignored: %s", record.place, error)
