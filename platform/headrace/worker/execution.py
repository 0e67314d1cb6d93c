"""One request on one engine."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from headrace.contracts.errors import EngineFailed, HeadraceError
from headrace.contracts.states import State
from headrace.core.ports import Call, Engine, Partial

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: a final state and the exact body for the caller."""

    state: State
    value: bytes
    http_status: int = 200


async def execute(engine: Engine, call: Call, emit: Callable[[bytes], Awaitable[None]]) -> Outcome:
    """Run the call; each chunk of a stream goes to `emit`. Cancelling aborts it inside the engine."""
    try:
        async with aclosing(engine.run(call)) as events:
            async for event in events:
                if isinstance(event, Partial):
                    await emit(event.value)
                else:
                    return Outcome(State.INCOMPLETE if event.incomplete else State.COMPLETED, event.value)
    except HeadraceError as error:
        return failure(error)
    except Exception as error:  # noqa: BLE001  # whatever an engine raises is the request's fate
        _log.exception("engine failed on request %s", call.id)
        return failure(EngineFailed(f"The engine failed on this request: {type(error).__name__}: {error}"))
    return failure(EngineFailed("The engine ended without an answer"))


def failure(error: HeadraceError, state: State = State.FAILED) -> Outcome:
    """The outcome that tells the caller of `error`."""
    return Outcome(state, error.body(), error.kind.http_status)
