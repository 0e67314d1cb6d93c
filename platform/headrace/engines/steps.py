"""The pace of an engine that plays: when the next token exists.

A batched LLM computes one token for every running request in one step. A request that arrives during a step
joins with the next one, and its tokens come whether or not somebody fetches them. Requests that find no slot
wait; one whose turn it is begins with the very step after that in which another ends, as in vLLM.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol, Self


class Pace(Protocol):
    """One request's tokens; leave the `async with` block when no more are wanted."""

    async def __aenter__(self) -> Self:
        """The first step begins."""
        ...

    async def __aexit__(self, *exc_info: object) -> None:
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

    async def __aenter__(self) -> Self:
        self._begun_s = asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def token(self, number: int) -> None:
        """Wait until token `number`, from 1, exists."""
        due_s = self._begun_s + number * self._step_s
        await asyncio.sleep(due_s - asyncio.get_running_loop().time())


@dataclass(eq=False, slots=True)
class _Seat:
    """One request's part in the steps. `first`: the step after which its first token is one step away."""

    tokens: int
    waiting: asyncio.Future[None] | None = None
    first: int = 0

    @property
    def last(self) -> int:
        """The step that ends it."""
        return self.first + self.tokens


class SharedSteps:
    """The one loop of steps of all requests, at most `slots` in each; it ticks only while there are some."""

    def __init__(self, step_s: float, slots: int) -> None:
        self._step_s = step_s
        self._free = slots
        self._done = 0
        self._ends_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._seated: set[_Seat] = set()
        self._ending: dict[int, list[_Seat]] = {}
        self._queue: deque[_Seat] = deque()
        self._reached: dict[int, list[asyncio.Future[None]]] = {}

    async def join(self, tokens: int) -> _Seat:
        """Take part with so many tokens; waits for a slot."""
        seat = _Seat(tokens)
        if self._free:
            # Too late for a step that is under way.
            self._sit(seat, self._done if self._timer is None else self._done + 1)
            if self._timer is None:
                self._begin()
            return seat
        seat.waiting = asyncio.get_running_loop().create_future()
        self._queue.append(seat)
        try:
            await seat.waiting
        except asyncio.CancelledError:
            self.leave(seat)
            raise
        return seat

    def leave(self, seat: _Seat) -> None:
        """Take part no longer."""
        if seat in self._seated:
            self._ending[seat.last].remove(seat)
            self._stand(seat)
            self._promote(self._done + 1)
        elif seat in self._queue:
            self._queue.remove(seat)
        if not self._seated:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            self._reached.clear()
            self._ending.clear()

    async def reach(self, step: int) -> None:
        """Wait for the end of a step."""
        if step > self._done:
            ended = asyncio.get_running_loop().create_future()
            self._reached.setdefault(step, []).append(ended)
            await ended

    def _sit(self, seat: _Seat, first: int) -> None:
        self._free -= 1
        seat.first = first
        self._seated.add(seat)
        self._ending.setdefault(seat.last, []).append(seat)

    def _stand(self, seat: _Seat) -> None:
        self._seated.remove(seat)
        self._free += 1

    def _promote(self, first: int) -> None:
        while self._free and self._queue:
            seat = self._queue.popleft()
            self._sit(seat, first)
            if seat.waiting is not None and not seat.waiting.done():
                seat.waiting.set_result(None)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._ends_at_s = loop.time() + self._step_s
        self._timer = loop.call_at(self._ends_at_s, self._tick)

    def _tick(self) -> None:
        self._done += 1
        for ended in self._reached.pop(self._done, ()):
            if not ended.done():
                ended.set_result(None)
        for seat in self._ending.pop(self._done, ()):
            self._stand(seat)
        self._promote(self._done)
        if not self._seated:
            self._timer = None
            return
        loop = asyncio.get_running_loop()
        # On time again after a short delay; after one of a whole step, from now on.
        self._ends_at_s = max(self._ends_at_s + self._step_s, loop.time())
        self._timer = loop.call_at(self._ends_at_s, self._tick)


class SharedPace:
    """A request among others, of so many tokens at most."""

    def __init__(self, steps: SharedSteps, tokens: int) -> None:
        self._steps = steps
        self._tokens = tokens
        self._seat: _Seat | None = None

    async def __aenter__(self) -> Self:
        if self._tokens:
            self._seat = await self._steps.join(self._tokens)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._seat is not None:
            self._steps.leave(self._seat)

    async def token(self, number: int) -> None:
        """Wait until token `number`, from 1, exists."""
        if self._seat is not None:
            await self._steps.reach(self._seat.first + number)
