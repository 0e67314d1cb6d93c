"""What the scaler sees beside its ticks: what comes back for another attempt, and some of what waits."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from headrace.contracts.errors import HeadraceError
from headrace.contracts.topics import Topics
from headrace.core.glimpse import Span, seen
from headrace.core.ports import Record
from headrace.core.returns import Part, Returns
from headrace.scaler.fleet import Fleet
from headrace.scaler.known import Known

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_LOOK_S: Final = 2.0
"""Between two looks at what waits for a model."""
_REST_S: Final = 0.25


class Retries(Protocol):
    """The retry topics."""

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """The next records; empty after `timeout_s`."""
        ...

    async def commits(self) -> Mapping[Part, int]:
        """What was put back: all below, by partition."""
        ...


class Looks(Protocol):
    """Shows some of the records that wait."""

    async def look(self, spans: Sequence[Span]) -> Sequence[tuple[float, Record]]:
        """Records of these partitions, each with the share of its span that is before it."""
        ...


class Observer:
    """Feeds the fleet. spans: what waits, by the models' slugs, as the last tick has read it."""

    def __init__(self, topics: Topics, fleet: Fleet) -> None:
        self._topics = topics
        self._fleet = fleet
        self._returns = Returns(topics)
        self._looked_s: dict[str, float] = {}
        self.spans: Mapping[str, Sequence[Span]] = {}

    async def follow(self, retries: Retries) -> None:
        """Read on for ever what is to be tried again."""
        while True:
            try:
                await self._follow_once(retries)
            except HeadraceError as error:
                _log.warning("retries are counted as before: %s", error)
                await asyncio.sleep(_POLL_S)

    async def _follow_once(self, retries: Retries) -> None:
        for record in await retries.poll(_POLL_S):
            self._returns.take(record)
        if self._returns:
            self._returns.committed(await retries.commits())
        self._fleet.returning(self._returns.due())

    async def watch(self, looks: Looks) -> None:
        """For ever, look at some of what waits for each model that scales, one after the other."""
        while True:
            self._looked_s = {slug: at_s for slug, at_s in self._looked_s.items() if slug in self.spans}
            for slug, known in self._fleet.by_slug().items():
                spans, now_s = self.spans.get(slug), time.monotonic()
                if spans and not known.is_fixed and now_s - self._looked_s.get(slug, -math.inf) >= _LOOK_S:
                    self._looked_s[slug] = now_s
                    await self._look(looks, known, spans)
            await asyncio.sleep(_REST_S)

    async def _look(self, looks: Looks, known: Known, spans: Sequence[Span]) -> None:
        try:
            found = await looks.look(spans)
        except HeadraceError as error:
            _log.warning("what waits for %s is taken for what came before: %s", known.deployed.name, error)
            return
        few = [each for each in (seen(record, before, known.deployed) for before, record in found) if each]
        waiting = Counter[str]()
        for span in spans:
            waiting[span.topic] += span.requests
        lanes = {
            owner[1]: count
            for topic, count in waiting.items()
            if (owner := self._topics.parse_requests(topic))
        }
        known.look(few, lanes, time.time())
