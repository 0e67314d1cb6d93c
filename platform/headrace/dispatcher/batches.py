"""Batches, from their input files to their output: each is worked on by one dispatcher, by a lease in SQL.

All that was done is noted there: when a dispatcher dies another goes on. Lines may then be queued twice;
their ids are the same, and the first result counts.
"""

import asyncio
import logging
import time
import uuid
from contextlib import suppress
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts.errors import HeadraceError, InvalidRequest, Unavailable, UnknownModel
from headrace.contracts.events import Cancel
from headrace.contracts.identity import sign_cancel
from headrace.core.batches import Batch, BatchState, Fault, Step, next_step
from headrace.core.ports import Outgoing
from headrace.dispatcher.batch_input import fail, prepare
from headrace.dispatcher.batch_output import finalize
from headrace.dispatcher.batch_parts import Parts
from headrace.dispatcher.batch_queue import queue

_log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
"""How often batches are looked for that nobody works on."""
_WAIT_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between two looks at a batch that waits for results; the last one repeats."""
_RETRY_S: Final = 2.0


class Batches:
    """Works on as many batches as it may."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._owner = f"d-{uuid.uuid4().hex}"
        self._working: dict[str, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then others may go on at once."""
        renewed_s = 0.0
        try:
            while not stop.is_set():
                try:
                    if self._working and time.monotonic() - renewed_s > self._lease_s / 3:
                        await self._parts.batches.renew(self._owner, time.time() + self._lease_s)
                        renewed_s = time.monotonic()
                    await self._adopt()
                except Unavailable as error:
                    _log.warning("batches wait: %s", error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await stop.wait()
        finally:
            await self._leave()

    @property
    def _lease_s(self) -> float:
        return self._parts.limits.batches.lease_s

    async def _adopt(self) -> None:
        room = self._parts.limits.batches.at_once - len(self._working)
        if room <= 0:
            return
        now_s = time.time()
        for batch_id in await self._parts.batches.claim(self._owner, now_s + self._lease_s, now_s, room):
            if batch_id in self._working:
                continue  # the lease had lapsed, and nobody has noticed
            task = asyncio.create_task(self._work(batch_id))
            self._working[batch_id] = task

    async def _work(self, batch_id: str) -> None:
        _log.info("batch %s: taken", batch_id)
        try:
            await Work(self._parts, self._owner, batch_id).run()
        except Exception:  # noqa: BLE001  # whoever takes it next tries again
            _log.exception("batch %s: a fault of ours; it is tried again", batch_id)
            await asyncio.sleep(_RETRY_S)
            with suppress(Unavailable):
                await self._parts.batches.release(self._owner, batch_id)
        finally:
            self._working.pop(batch_id, None)

    async def _leave(self) -> None:
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            with suppress(Unavailable):
                await self._parts.batches.release(self._owner)


class Work:
    """Work on one batch, until its end or until it is somebody else's."""

    def __init__(self, parts: Parts, owner: str, batch_id: str) -> None:
        self._parts = parts
        self._owner = owner
        self._id = batch_id
        self._waits = 0
        self._is_told = False

    async def run(self) -> None:
        """Step after step."""
        while (batch := await self._look()) is not None:
            step = next_step(batch, self._parts.limits.batches.window_lines, time.time())
            if step is Step.NONE:
                return
            try:
                await self._take(step, batch)
            except UnknownModel as error:
                _log.warning("batch %s waits: %s", self._id, error)
                await asyncio.sleep(_RETRY_S)
            except InvalidRequest as error:
                await self._give_up(batch, error)
            except Unavailable as error:
                _log.warning("batch %s waits: %s", self._id, error)
                await asyncio.sleep(_RETRY_S)

    async def _look(self) -> Batch | None:
        while True:
            try:
                return await self._parts.batches.held(self._id, self._owner)
            except Unavailable as error:
                _log.warning("batch %s waits: %s", self._id, error)
                await asyncio.sleep(_RETRY_S)

    async def _take(self, step: Step, batch: Batch) -> None:
        parts, owner = self._parts, self._owner
        if batch.state is BatchState.CANCELLING and not self._is_told:
            await self._cancel_lines(batch)
        if step is Step.WAIT:
            await asyncio.sleep(_WAIT_S[min(self._waits, len(_WAIT_S) - 1)])
            self._waits += 1
            return
        self._waits = 0
        match step:
            case Step.VALIDATE:
                await prepare(parts, owner, batch)
            case Step.QUEUE:
                await queue(parts, owner, batch)
            case _:
                await finalize(parts, owner, batch)

    async def _cancel_lines(self, batch: Batch) -> None:
        """One event for all of them: none is begun any more."""
        key = batch.id.encode()
        event = Cancel(request_id=batch.id, reason="The batch was cancelled", sent_at_s=time.time())
        secret = self._parts.key
        signed = None if secret is None else [(h.SIGNATURE, sign_cancel(secret, key))]
        await (
            await self._parts.publisher.send(
                Outgoing(self._parts.topics.control, event.encode(), key, signed)
            )
        )
        self._is_told = True

    async def _give_up(self, batch: Batch, error: HeadraceError) -> None:
        """What it needs is gone for good."""
        _log.warning("batch %s failed: %s", self._id, error)
        await fail(self._parts, self._owner, batch, [Fault(error.code, error.message, None, error.param)])
