"""Runs of a model, several calls in one: what waits together and has the same shape but for its first axis.

A model of this kind computes a batch of 32 in little more time than a single one. While one batch runs, the
next gathers; an idle model waits a moment for company.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np

from headrace.contracts.errors import EngineFailed
from headrace.contracts.tensors import Signature
from headrace.engines.tensors import ANY_LENGTH, Arrays

_Key = tuple[tuple[str, str, tuple[int, ...]], ...]


class Halt:
    """Ends a run from another thread, where the model can be ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_set = False
        self._end: Callable[[], object] | None = None

    def set(self) -> None:
        """End it, now or when it begins."""
        with self._lock:
            self._is_set = True
            end = self._end
        if end is not None:
            end()

    def on(self, end: Callable[[], object]) -> None:
        """How a run that begins is ended."""
        with self._lock:
            self._end = end
            is_set = self._is_set
        if is_set:
            end()


class Model(Protocol):
    """A model that is loaded. `run` blocks; it is called from one thread at a time."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def run(self, arrays: Arrays, halt: Halt) -> Arrays:
        """Compute.

        Raises:
            InvalidRequest: the model cannot do it with these values.
            Exception: it failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """max_rows: of a batch, first axes added up; 1 turns batching off.
    delay_s: a call waits so long for others to join it, when the model is idle.
    """

    max_rows: int
    delay_s: float


class _Work:
    """A call that waits for its run, or runs. `rows` None: it runs alone."""

    def __init__(self, arrays: Arrays, rows: int | None, due_s: float) -> None:
        self.arrays = arrays
        self.rows = rows
        self.key = _key(arrays)
        self.due_s = due_s
        self.done: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        self.abandoned = False


class Batcher:
    """Runs one model. `start` and `stop` are the engine's."""

    def __init__(self, model: Model, plan: BatchPlan) -> None:
        self._model = model
        self._plan = plan
        self._can_batch = plan.max_rows > 1 and is_batched(model.signature)
        self._waiting: list[_Work] = []
        self._running: list[_Work] = []
        self._halt = Halt()
        self._arrived = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._driver = asyncio.create_task(self._drive())

    @property
    def in_flight(self) -> int:
        """Calls that wait or run."""
        return len(self._waiting) + len(self._running)

    async def run(self, arrays: Arrays) -> Arrays:
        """The model's answer to one call.

        Cancelled while it waits, it is gone at once; while it runs, when the run is over, which is soon when
        nobody else is in it.
        """
        due_s = asyncio.get_running_loop().time() + self._plan.delay_s
        work = _Work(arrays, _rows(arrays) if self._can_batch else None, due_s)
        self._waiting.append(work)
        self._arrived.set()
        try:
            return await asyncio.shield(work.done)
        except asyncio.CancelledError:
            await self._leave(work)
            raise

    async def stop(self) -> None:
        """Let the thread go. No call is running."""
        self._driver.cancel()
        with suppress(asyncio.CancelledError):
            await self._driver
        self._pool.shutdown(wait=False)

    async def _leave(self, work: _Work) -> None:
        work.abandoned = True
        if work in self._waiting:
            self._waiting.remove(work)
            return
        if all(each.abandoned for each in self._running):
            self._halt.set()
        await asyncio.wait([work.done])
        work.done.exception()  # nobody waits for it any more

    async def _drive(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await self._gather()
            self._running = self._take()
            if self._running:
                await self._compute()

    async def _gather(self) -> None:
        """Let others join the first that waits, until the batch is full or its time is over."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            first = self._waiting[0]
            left_s = first.due_s - loop.time()
            if first.rows is None or left_s <= 0 or self._rows_with(first) >= self._plan.max_rows:
                return
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()

    def _rows_with(self, first: _Work) -> int:
        return sum(each.rows or 0 for each in self._waiting if each.key == first.key)

    def _take(self) -> list[_Work]:
        """The first that waits, and those that fit to it."""
        if not self._waiting:
            return []
        first = self._waiting.pop(0)
        if first.rows is None:
            return [first]
        taken, rows = [first], first.rows
        for each in list(self._waiting):
            if each.rows is not None and each.key == first.key and rows + each.rows <= self._plan.max_rows:
                taken.append(each)
                rows += each.rows
                self._waiting.remove(each)
        return taken

    async def _compute(self) -> None:
        batch, self._halt = self._running, Halt()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._pool, self._answers, batch, self._halt)
        except asyncio.CancelledError:  # only `stop` does that, when nobody waits
            self._halt.set()
            raise
        finally:
            self._running = []
        for work, answer in zip(batch, found, strict=True):
            if isinstance(answer, Exception):
                work.done.set_exception(answer)
            else:
                work.done.set_result(answer)

    def _answers(self, batch: Sequence[_Work], halt: Halt) -> Sequence[Arrays | Exception]:
        """In the thread. One bad call must not spoil the others: what fails together is tried alone."""
        if len(batch) == 1:
            return [self._alone(batch[0], halt)]
        names = batch[0].arrays
        try:
            joined = {name: np.concatenate([work.arrays[name] for work in batch]) for name in names}
            return _split(self._model.run(joined, halt), [work.rows or 0 for work in batch])
        except Exception:  # noqa: BLE001  # whatever it is, each hears of its own
            return [self._alone(work, halt) for work in batch]

    def _alone(self, work: _Work, halt: Halt) -> Arrays | Exception:
        if work.abandoned:
            return EngineFailed("Nobody waits for it any more")
        try:
            return self._model.run(work.arrays, halt)
        except Exception as error:  # noqa: BLE001  # the caller's, in its own task
            return error


def is_batched(signature: Signature) -> bool:
    """Whether the model takes any number of rows at once, and gives as many."""
    specs = (*signature.inputs, *signature.outputs)
    return all(spec.shape and spec.shape[0] == ANY_LENGTH for spec in specs)


def _rows(arrays: Arrays) -> int | None:
    rows = {array.shape[0] for array in arrays.values()}
    return rows.pop() or None if len(rows) == 1 else None


def _key(arrays: Arrays) -> _Key:
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(arrays.items()))


def _split(answer: Arrays, rows: Sequence[int]) -> list[Arrays]:
    if any(array.shape[:1] != (sum(rows),) for array in answer.values()):
        raise EngineFailed("The model gave another number of rows than it got")
    ends = np.cumsum(rows)[:-1]
    parts = {name: np.split(array, ends) for name, array in answer.items()}
    return [{name: part[number] for name, part in parts.items()} for number in range(len(rows))]
