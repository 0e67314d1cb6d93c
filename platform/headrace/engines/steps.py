"""The pace of an engine that plays: when the next token exists.

A batched LLM computes one token for every running request in one step. A request that arrives during a step
joins with the next one, and its tokens come whether or not somebody fetches them.
"""

import asyncio
from typing import Protocol, Self


class Pace(Protocol):
    """One request's tokens; leave the `with` block when no more are wanted."""

    def __enter__(self) -> Self:
        """The first step begins."""
        ...

    def __exit__(self, *exc_info: object) -> None:
        """No more tokens are wanted."""
        ...

    async def token(self, number: int) -> None:
        """Wait until token `number`, from 1, exists."""
        ...


class OwnPace:
    """A request with steps of its own, as if it were alone."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._begun_s = 0.0

    def __enter__(self) -> Self:
        self._begun_s = asyncio.get_running_loop().time()
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    async def token(self, number: int) -> None:
        """Wait until token `number`, from 1, exists."""
        due_s = self._begun_s + number * self._step_s
        await asyncio.sleep(due_s - asyncio.get_running_loop().time())


class SharedSteps:
    """The one loop of steps of all requests; it ticks only while there are some."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._done = 0
        self._running = 0
        self._ends_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    def join(self) -> int:
        """Take part; returns the step after which the first token is one step away."""
        self._running += 1
        if self._timer is not None:
            return self._done + 1  # too late for the step that is under way
        loop = asyncio.get_running_loop()
        self._ends_at_s = loop.time() + self._step_s
        self._timer = loop.call_at(self._ends_at_s, self._tick)
        return self._done

    def leave(self) -> None:
        """Take part no longer."""
        self._running -= 1
        if not self._running:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            self._waiting.clear()

    async def reach(self, step: int) -> None:
        """Wait for the end of a step."""
        if step > self._done:
            ended = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(step, []).append(ended)
            await ended

    def _tick(self) -> None:
        self._done += 1
        for ended in self._waiting.pop(self._done, ()):
            if not ended.done():
                ended.set_result(None)
        loop = asyncio.get_running_loop()
        # On time again after a short delay; after one of a whole step, from now on.
        self._ends_at_s = max(self._ends_at_s + self._step_s, loop.time())
        self._timer = loop.call_at(self._ends_at_s, self._tick)


class SharedPace:
    """A request among others."""

    def __init__(self, steps: SharedSteps) -> None:
        self._steps = steps
        self._joined_after = 0

    def __enter__(self) -> Self:
        self._joined_after = self._steps.join()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._steps.leave()

    async def token(self, number: int) -> None:
        """Wait until token `number`, from 1, exists."""
        await self._steps.reach(self._joined_after + number)
