"""The caretaker: answers what has ended while its model has no worker, so that nobody waits for ever.

A model may be scaled to none, or all its workers may fail. Its requests stay on their lanes; those whose
deadline passes, or that are cancelled, are answered here and committed for the group, from outside.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from headrace.contracts.errors import SetupError, Unavailable
from headrace.contracts.events import ModelDeployed
from headrace.core.answers import failure
from headrace.core.cancels import Cancels
from headrace.core.identity import Trust
from headrace.core.offsets import Commit
from headrace.core.ports import Record
from headrace.core.vacancy import Part, Vacancy
from headrace.dispatcher.answering import Answering
from headrace.dispatcher.stopping import unless_stopped

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 200
_FAULTS: Final = (Unavailable, SetupError, TimeoutError)


class Group(Protocol):
    """A group that has no members."""

    async def commits(self) -> Mapping[Part, Commit | None]:
        """What is committed, by partition."""
        ...

    def read(self, positions: Mapping[Part, int]) -> AsyncIterator[Sequence[Record]]:
        """What lies from the positions to the ends of their partitions, piece by piece."""
        ...

    async def commit(self, commits: Mapping[Part, Commit]) -> bool:
        """Commit; False when the group has members."""
        ...


class Groups(Protocol):
    """All models' groups."""

    async def vacant(self) -> Collection[str]:
        """Slugs of models that have something to do and nobody to do it."""
        ...

    def open(self, deployed: ModelDeployed) -> AbstractAsyncContextManager[Group]:
        """One model's group."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the caretaker works with. `models`: those that are deployed, by slug."""

    groups: Groups
    models: Callable[[], Mapping[str, ModelDeployed]]
    answering: Answering
    cancels: Cancels
    trust: Trust
    interval_s: float


class Caretaker:
    """The acting shell round `core.vacancy`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._vacancies: dict[str, Vacancy] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Look after vacant models until `stop` is set."""
        while not stop.is_set():
            try:
                await unless_stopped(self.look(), stop)
            except _FAULTS as error:
                _log.warning("models without workers wait: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._parts.interval_s):
                    await stop.wait()

    async def look(self) -> None:
        """Look once."""
        models = self._parts.models()
        vacant = set(await self._parts.groups.vacant()) & models.keys()
        self._vacancies = {slug: each for slug, each in self._vacancies.items() if slug in vacant}
        for slug in sorted(vacant):
            try:
                await self._look_after(models[slug])
            except _FAULTS as error:
                _log.warning("%s waits, other models do not: %s", models[slug].name, error)

    async def _look_after(self, deployed: ModelDeployed) -> None:
        async with self._parts.groups.open(deployed) as group:
            commits = await group.commits()
            vacancy = self._vacancies.get(deployed.slug)
            if vacancy is None or not vacancy.is_still(commits):
                vacancy = self._vacancies[deployed.slug] = Vacancy(deployed, commits, self._parts.trust)
            async for records in group.read(vacancy.positions(time.time())):
                for record in records:
                    vacancy.take(record)
            await self._answer(deployed, vacancy)
            changed = vacancy.changed()
            # Somebody may have come, worked and gone meanwhile: what was done must not be undone.
            if changed and vacancy.is_still(await group.commits()) and await group.commit(changed):
                vacancy.committed(changed)
            elif changed:
                del self._vacancies[deployed.slug]

    async def _answer(self, deployed: ModelDeployed, vacancy: Vacancy) -> None:
        ended = vacancy.ended(time.time(), self._parts.cancels)
        for first in range(0, len(ended), _AT_ONCE):
            some = ended[first : first + _AT_ONCE]
            answers = (
                self._parts.answering.answer(
                    each.waiting.head,
                    deployed.name,
                    failure(each.error, each.state),
                    trusted=each.waiting.trusted,
                )
                for each in some
            )
            await asyncio.gather(*answers)
            for each in some:
                vacancy.settled(each.waiting)
