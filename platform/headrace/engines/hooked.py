"""An engine with a handler's hooks round it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from headrace.contracts import bodies
from headrace.contracts.errors import EngineFailed, InvalidRequest
from headrace.core.ports import Call, Engine, Final, Partial
from headrace.core.reassembly import missing
from headrace.engines.calling import Caller
from headrace.engines.handler import Handler
from headrace.engines.python import load
from headrace.sdk import Context, Loading

_THREADS_MAX = 32


class Hooked:
    """Fills `core.ports.Engine` round another one.

    With `after` a stream comes at the end, all at once: what it makes of the answer is not known before.
    """

    def __init__(self, engine: Engine, handler: Handler, loading: Loading) -> None:
        self._engine = engine
        self._handler = handler
        self._loading = loading
        self._caller = Caller(handler, min(engine.capacity, _THREADS_MAX))
        self._state: Any = None

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        return self._engine.capacity

    @property
    def lookahead(self) -> int:
        """How many more it takes beside them."""
        return self._engine.lookahead

    async def start(self) -> None:
        """Load both."""
        self._state = await load(self._handler, self._loading)
        await self._engine.start()

    async def stop(self) -> None:
        """Free both."""
        await self._engine.stop()
        self._caller.close()

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        context = Context(call.id, call.model, self._state)
        async with aclosing(self._engine.run(await self._before(call, context))) as events:
            async for event in events:
                if self._handler.after is None:
                    yield event
                elif isinstance(event, Final):
                    answer = await self._caller.call(
                        self._handler.after, (orjson.loads(event.value), context), context
                    )
                    value = _json(answer, "after")
                    if call.body.stream:
                        for chunk in missing((), value, usage=call.body.wants_usage_chunk) or ():
                            yield Partial(chunk)
                    yield event._replace(value=value)

    async def _before(self, call: Call, context: Context) -> Call:
        if self._handler.before is None:
            return call
        found = await self._caller.call(self._handler.before, (orjson.loads(call.value), context), context)
        value = _json(found, "before")
        try:
            return call._replace(value=value, body=bodies.parse(call.path, value))
        except InvalidRequest as error:
            raise EngineFailed(f"The function's 'before' gave no body for {call.path}: {error}") from None


def _json(found: object, name: str) -> bytes:
    if not isinstance(found, dict):
        raise EngineFailed(f"The function's '{name}' gave {type(found).__name__}; it must return an object")
    try:
        return orjson.dumps(found)
    except TypeError as error:
        raise EngineFailed(f"The function's '{name}' gave what is no JSON: {error}") from None
