"""Calls a handler's functions, whichever kind they are: `async` in the event loop, plain ones in threads."""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, Final, TypeVar

from headrace.contracts.errors import EngineFailed, HeadraceError
from headrace.engines.handler import Handler, Hook, where
from headrace.sdk import Context

_log = logging.getLogger(__name__)

_END: Final = object()

T = TypeVar("T")


class Caller:
    """Calls the functions of one handler. `threads`: how many plain ones may run at once."""

    def __init__(self, handler: Handler, threads: int) -> None:
        self._handler = handler
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="handler")

    def close(self) -> None:
        """No call is running."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def call(self, hook: Hook, given: Sequence[object], context: Context) -> Any:
        """What the function returns.

        Cancelling waits until a plain function returns: nothing else can end a thread.

        Raises:
            HeadraceError: what the handler raises of these; `EngineFailed` for whatever else it raises.
        """
        try:
            if inspect.iscoroutinefunction(hook):
                return await hook(*given)
            return await self._in_thread(lambda: hook(*given), context)
        except (Exception, SystemExit) as error:  # whatever a person's code raises
            raise self._told(error, context) from error

    async def pieces(self, hook: Hook, value: object, context: Context) -> AsyncGenerator[Any, None]:
        """What the generator yields. Closing closes it.

        Raises:
            HeadraceError: as `call`.
        """
        try:
            if inspect.isasyncgenfunction(hook):
                async with aclosing(hook(value, context)) as found:
                    async for piece in found:
                        yield piece
                return
            iterator = iter(hook(value, context))
            try:
                while (piece := await self._in_thread(lambda: next(iterator, _END), context)) is not _END:
                    yield piece
            finally:
                await self._in_thread(lambda: _close(iterator), context)
        except (Exception, SystemExit) as error:  # whatever a person's code raises
            raise self._told(error, context) from error
        finally:
            context._cancelled.set()  # ours to set, theirs to read

    async def _in_thread(self, work: Callable[[], T], context: Context) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            context._cancelled.set()  # ours to set, theirs to read
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # nobody waits for it any more
            raise

    def _told(self, error: BaseException, context: Context) -> HeadraceError:
        if isinstance(error, HeadraceError):
            return error
        _log.error("request %s: the handler failed", context.request_id, exc_info=error)
        place = where(error, self._handler.path)
        return EngineFailed(f"The function failed on this request: {place}: {type(error).__name__}: {error}")


def _close(iterator: Iterator[Any]) -> None:
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
