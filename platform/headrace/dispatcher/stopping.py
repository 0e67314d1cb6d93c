"""Work that waits for Kafka as long as it takes, unless it is told to stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

_GRACE_S: Final = 1.0


async def unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Whether the work was done; told to stop, it has a moment more and is then given up."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    either: set[asyncio.Task[Any]] = {working, stopping}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await asyncio.wait([working], timeout=_GRACE_S)
        if working.done():
            working.result()
            return True
        return False
    finally:
        for task in either:
            task.cancel()
        await asyncio.gather(*either, return_exceptions=True)
