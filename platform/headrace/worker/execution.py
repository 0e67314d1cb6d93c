"""One request on one engine."""

import logging
from collections.abc import Awaitable, Callable

from headrace.contracts.errors import EngineDied, EngineFailed, HeadraceError
from headrace.contracts.states import State
from headrace.core.answers import Outcome
from headrace.core.ports import Call, Engine, Partial

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
