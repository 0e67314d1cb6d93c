"""Work that must be done however long a database or a broker is away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from headrace.contracts.errors import Unavailable

_log = logging.getLogger(__name__)

_RETRY_S: Final = (0.2, 1.0, 5.0, 15.0)
"""Waits while something does not serve; the last one repeats."""


async def insist(work: Callable[[], Awaitable[object]], stop: asyncio.Event, what: str) -> bool:
    """Try until it is done; False when told to stop before. `what`: waits meanwhile, in the plural."""
    attempt = 0
    while True:
        try:
            await work()
        except Unavailable as error:
            if not attempt:
                _log.warning("%s wait: %s", what, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S[min(attempt, len(_RETRY_S) - 1)]):
                    await stop.wait()
            if stop.is_set():
                return False
            attempt += 1
        else:
            if attempt:
                _log.info("%s flow again after %d attempts", what, attempt)
            return True
