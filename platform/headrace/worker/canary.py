"""A worker's canary: a request of its own, by which it knows that its engine answers, and answers rightly."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson

from headrace.contracts import requests
from headrace.contracts.errors import EngineDied, HeadraceError, SetupError
from headrace.contracts.events import ModelDeployed
from headrace.contracts.requests import CHAT, COMPLETIONS, EMBEDDINGS, RequestHead
from headrace.core.answers import Outcome
from headrace.core.ports import Engine, Place, Record
from headrace.core.wellness import Wellness
from headrace.worker.execution import execute
from headrace.worker.intake import Refusal, read

_log = logging.getLogger(__name__)

_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    CHAT: {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1},
    COMPLETIONS: {"prompt": "ping", "max_tokens": 1},
    EMBEDDINGS: {"input": "ping"},
}
_FULL_S: Final = 1.0
"""Until a full engine is looked at again: a canary would only wait there, and a caller behind it."""


class Health(NamedTuple):
    """What a heartbeat says of it. at_s: when it was last well; took_s: its canary. ailing: why not now."""

    at_s: float | None = None
    took_s: float | None = None
    ailing: str | None = None


class Canary:
    """Asks the engine beside what callers ask, in no slot and in no count of theirs."""

    def __init__(self, deployed: ModelDeployed, engine: Engine) -> None:
        self._deployed = deployed
        self._engine = engine
        self._rules = deployed.manifest.health
        self._path = _path(deployed)
        self._body = _body(deployed, self._path)
        self._wellness = Wellness(self._rules.every_s, self._rules.failures, time.monotonic())
        self._stirred = asyncio.Event()
        self.health = Health()

    def answered(self) -> None:
        """A caller's request has an answer."""
        self._wellness.answered(time.monotonic())

    def doubted(self) -> None:
        """The engine has failed on a caller's request."""
        self._wellness.doubted()
        self._stirred.set()

    async def prove(self) -> None:
        """Before the first caller's request; returns when the answer is right.

        Raises:
            SetupError: it is not, or there is none.
        """
        if self._body is not None and not await self._look():
            raise SetupError(f"The canary failed: {self.health.ailing}")

    async def watch(self, is_full: Callable[[], bool]) -> str:
        """Look again and again; returns why, when the worker is no longer well. Never, without a canary."""
        while self._body is not None and not self._wellness.is_lost:
            due_s = self._wellness.due_in_s(time.monotonic())
            if due_s > 0:
                self._stirred.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(due_s):
                        await self._stirred.wait()
            elif is_full():
                await asyncio.sleep(_FULL_S)
            elif not await self._look():
                _log.warning("canary failed: %s", self.health.ailing)
        if self._body is None:
            return await asyncio.Future()
        number = self._rules.failures
        told = "a canary" if number == 1 else f"{number} canaries in a row"
        return f"{told} failed, at last: {self.health.ailing}"

    async def _look(self) -> bool:
        """Ask once; whether the answer was right."""
        began_s = time.monotonic()
        ailing = await self._ask()
        ended_s = time.monotonic()
        if ailing is not None:
            self._wellness.failed(ended_s)
            self.health = self.health._replace(ailing=ailing)
            return False
        self._wellness.passed(ended_s)
        self.health = Health(time.time(), ended_s - began_s)
        return True

    async def _ask(self) -> str | None:
        """What is wrong with the answer."""
        job = read(self._record(), self._deployed, time.time())
        if isinstance(job, Refusal):
            return f"the manifest's canary is no request: {job.error.message}"
        asking = asyncio.create_task(execute(self._engine, job.call, _drop))
        asking.add_done_callback(_heed)
        try:
            await asyncio.wait({asking}, timeout=self._rules.timeout_s)
        finally:
            # Not waited for: an engine that hangs may not heed it.
            asking.cancel()
        if not asking.done():
            return f"no answer within {self._rules.timeout_s:g} s"
        try:
            return self._judged(asking.result().value)
        except (HeadraceError, EngineDied) as error:
            return str(error)

    def _judged(self, value: bytes) -> str | None:
        checker = self._rules.wants
        if checker is None:
            return None
        try:
            fault = checker.fault(orjson.loads(value), of="answer")
        except orjson.JSONDecodeError:
            return "the answer is no JSON"
        return None if fault is None else f"the answer is not as it should be: {fault[1]}"

    def _record(self) -> Record:
        head = RequestHead(id="canary", source="/canary", path=self._path)
        headers = dict(requests.write(head))
        return Record(Place("canary", 0, 0), None, self._body, headers, int(time.time() * 1000))


def _path(deployed: ModelDeployed) -> str:
    """The first that the model serves, or that we know a canary for."""
    serves, given = deployed.manifest.serves, deployed.manifest.health.canary
    if given:
        return serves[0]
    return next((path for path in serves if path in _DEFAULTS), serves[0])


def _body(deployed: ModelDeployed, path: str) -> bytes | None:
    given = deployed.manifest.health.canary
    if given is False:
        return None
    body = given if given is not None else _DEFAULTS.get(path)
    return None if body is None else orjson.dumps(body)


def _heed(asking: "asyncio.Task[Outcome]") -> None:
    """What becomes of an answer that came too late."""
    if not asking.cancelled():
        asking.exception()


async def _drop(chunk: bytes) -> None:
    """Nobody listens."""
