"""Keeps processes running: starts a dead one again, gives up when that does not help."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from headrace.contracts.errors import SetupError
from headrace.devstack.folder import DataFolder
from headrace.devstack.processes import MARK, Child, Service, last_words, run, sentence, spawn

_log = logging.getLogger(__name__)

_QUICK_S: Final = 10.0
_MAX_QUICK_DEATHS: Final = 5
_SETUP_FAILED: Final = 1


class Supervisor:
    """The children of one stack. `fault` is set to the sentence that ends it all."""

    def __init__(self, folder: DataFolder, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._changed = changed
        self._children: dict[str, Child] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._starting = True
        self.fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every process, as the state file lists it."""
        return [child.record() for child in self._children.values()]

    async def keep(self, service: Service) -> None:
        """Start a process and keep it running."""
        child = await self._spawn(service)
        keeper = asyncio.create_task(self._keep(child))
        self._keepers.add(keeper)

    async def run(self, service: Service) -> str:
        """Run a process to its end; returns what it printed.

        Raises:
            SetupError: it failed; its last words are the reason.
        """
        return await run(self._marked(service))

    def settled(self) -> None:
        """Start-up is over: from now on a process that cannot be set up is tried again too."""
        self._starting = False

    async def stop(self, order: Sequence[str]) -> None:
        """Stop every process, in this order; those that are not named come first."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        if not self.fault.cancel():
            self.fault.exception()  # it has been told, or no longer matters
        rank = {name: index for index, name in enumerate(order, 1)}
        for name in sorted(self._children, key=lambda name: rank.get(name, 0)):
            await self._children[name].stop()

    def kill(self) -> None:
        """End every process at once."""
        for child in self._children.values():
            child.kill()

    async def _spawn(self, service: Service) -> Child:
        child = await spawn(self._marked(service), self._folder.log_file(service.name))
        self._children[service.name] = child
        self._changed()
        return child

    async def _keep(self, child: Child) -> None:
        try:
            await self._keep_running(child)
        except OSError as error:
            self._give_up(f"{child.service.name} cannot be started again: {error.strerror or error}")

    async def _keep_running(self, child: Child) -> None:
        quick_deaths = 0
        loop = asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            code = await child.process.wait()
            name = child.service.name
            reason = last_words(child.log)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            _log.warning("%s %s: %s", name, how, reason)
            if self._starting and code == _SETUP_FAILED:
                self._give_up(f"{name} does not start: {sentence(reason)}")
                return
            quick_deaths = quick_deaths + 1 if loop.time() - started_s < _QUICK_S else 1
            if quick_deaths >= _MAX_QUICK_DEATHS:
                self._give_up(f"{name} {how} {quick_deaths} times in a row; its log ends: {reason}")
                return
            await asyncio.sleep(min(0.1 * 2**quick_deaths, 3.0) if quick_deaths > 1 else 0.0)
            child = await self._spawn(child.service)

    def _marked(self, service: Service) -> Service:
        return replace(service, variables={**service.variables, MARK: str(self._folder.path)})

    def _give_up(self, sentence: str) -> None:
        if not self.fault.done():
            self.fault.set_exception(SetupError(sentence))
