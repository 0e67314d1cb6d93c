"""Keeps up with all objects of a kind: lists them, watches from there on, and lists again when in doubt."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final, Generic

from headrace.contracts.errors import HeadraceError, Unavailable
from headrace.scaler.actuators.kubernetes.cluster import Cluster, Kind, T

_log = logging.getLogger(__name__)

_QUIET_S: Final = 10.0
"""A watch that says nothing for so long may be dead: a list tells."""
_PATIENCE_S: Final = 3.0
"""So long what was known last is taken for true after the connection broke."""
_STALE_S: Final = 25.0
"""More than a quiet watch and a list that times out."""
_HALT_S: Final = 1.0
_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 5.0


class Follower(Generic[T]):
    """All of a kind, by name. `changed` is called with each as it was and as it is; None: not there."""

    def __init__(
        self, cluster: Cluster, kind: Kind[T], changed: Callable[[T | None, T | None], None]
    ) -> None:
        self._cluster = cluster
        self._kind: Kind[T] = kind
        self._changed: Callable[[T | None, T | None], None] = changed
        self._task: asyncio.Task[None] | None = None
        self._is_halted = False
        self._doubt = asyncio.Event()
        self._heard_s = 0.0
        self._broken_s: float | None = None
        self.found: dict[str, T] = {}

    async def start(self) -> None:
        """List them.

        Raises:
            Unavailable: they cannot be listed.
        """
        revision = await self._list()
        self._task = asyncio.create_task(self._follow(revision))

    def halt(self) -> None:
        """Follow no more, when what is under way is done: `stop` waits for that.

        The client loses a connection that is cancelled while it is made, so that is the last resort.
        """
        self._is_halted = True

    async def stop(self) -> None:
        """To be called when the cluster is closed, so that no watch goes on."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_HALT_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Raises: Unavailable: what is known may be old."""
        now_s = time.monotonic()
        is_broken = self._broken_s is not None and now_s - self._broken_s > _PATIENCE_S
        if self._doubt.is_set() or is_broken or now_s - self._heard_s > _STALE_S:
            raise Unavailable(f"the {self._kind.plural} of the cluster are not known now")

    def doubt(self) -> None:
        """Something was changed and nobody knows whether: nothing is known until all are listed again."""
        self._doubt.set()

    def put(self, item: T) -> None:
        """One is so now; what is older than what is known says nothing."""
        before = self.found.get(item.name)
        if before is None or before.revision < item.revision:
            self.found[item.name] = item
            self._changed(before, item)

    async def _follow(self, revision: int | None) -> None:
        pause_s = _PAUSE_S
        while not self._is_halted:
            try:
                if revision is None:
                    revision = await self._list()
                    pause_s = _PAUSE_S
                else:
                    revision = await self._watch(revision)
            except HeadraceError as error:
                revision = None
                if self._is_halted:
                    return
                self._broken_s = time.monotonic() if self._broken_s is None else self._broken_s
                _log.warning("%s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    async def _list(self) -> int:
        is_doubted = self._doubt.is_set()
        listed, revision = await self._cluster.list(self._kind)
        # What we have written since the list was made is newer than it.
        gone = [name for name, item in self.found.items() if name not in listed and item.revision <= revision]
        for name in gone:
            self._drop(name)
        for item in listed.values():
            self.put(item)
        if is_doubted:
            self._doubt.clear()
        self._hear()
        return revision

    async def _watch(self, revision: int) -> int:
        """Until it has been quiet for a while, or there is doubt: then lists them again.

        Raises:
            Unavailable: it broke, or goes back too far to be had.
        """
        async with aclosing(self._cluster.watch(self._kind, revision)) as changes:
            while True:
                coming = asyncio.ensure_future(anext(changes))
                try:
                    await self._wait(coming)
                    if not coming.done():
                        return await self._list()
                finally:
                    coming.cancel()
                    await asyncio.wait([coming])
                item, is_gone = coming.result()
                self._hear()
                self.put(item)
                if is_gone and self.found[item.name].revision <= item.revision:
                    self._drop(item.name)  # and not one that we have made since

    async def _wait(self, coming: asyncio.Future[tuple[T, bool]]) -> None:
        doubt = asyncio.create_task(self._doubt.wait())
        try:
            waits: list[asyncio.Future[Any]] = [coming, doubt]
            await asyncio.wait(waits, timeout=_QUIET_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            doubt.cancel()

    def _hear(self) -> None:
        self._heard_s, self._broken_s = time.monotonic(), None

    def _drop(self, name: str) -> None:
        before = self.found.pop(name, None)
        if before is not None:
            self._changed(before, None)
