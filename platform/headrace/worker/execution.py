"""One request on one engine."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from headrace.contracts.errors import EngineDied, EngineFailed, HeadraceError
from headrace.contracts.states import State
from headrace.core.answers import Outcome
from headrace.core.ports import Call, Engine, Partial
from headrace.core.responses import Responder

_log = logging.getLogger(__name__)


async def execute(engine: Engine, call: Call, emit: Callable[[bytes], Awaitable[None]]) -> Outcome:
    """Run the call; each chunk of a stream goes to `emit`. Cancelling aborts it inside the engine.

    Raises:
        EngineDied: the engine is gone.
        HeadraceError: what the engine says is wrong; `EngineFailed` for whatever else it raises.
    """
    events = engine.run(call)
    try:
        async for event in events:
            if isinstance(event, Partial):
                await emit(event.value)
            else:
                return Outcome(State.INCOMPLETE if event.incomplete else State.COMPLETED, event.value)
    except (HeadraceError, EngineDied):
        raise
    except Exception as error:
        _log.exception("engine failed on request %s", call.id)
        failed = f"The engine failed on this request: {type(error).__name__}: {error}"
        raise EngineFailed(failed) from error
    finally:
        await events.aclose()
    raise EngineFailed("The engine ended without an answer")


async def respond(
    engine: Engine, call: Call, responder: Responder, emit: Callable[[bytes], Awaitable[None]]
) -> Outcome:
    """The same for a Response: the engine runs a chat, `emit` gets the Response's events; errors alike."""

    async def tell(events: Iterable[bytes]) -> None:
        for event in events:
            await emit(event)

    async def translated(chunk: bytes) -> None:
        await tell(responder.chunk(chunk))

    # Nothing before the first token: what fails until then can be tried again.
    outcome = await execute(engine, call, translated)
    events, value = responder.finish(outcome.value, int(time.time()))
    if call.body.stream:
        await tell(events)
    return outcome._replace(value=value)
