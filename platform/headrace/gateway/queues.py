"""How much waits for each model: what Kafka said a moment ago, and what this gateway has done since."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from headrace.contracts.errors import HeadraceError, SetupError
from headrace.contracts.events import ModelDeployed
from headrace.core.limits import check_queue
from headrace.settings import GatewaySettings

_log = logging.getLogger(__name__)

_READ_S: Final = 1.0


class Depth(Protocol):
    """Requests of a partition without a fate yet; see `kafka.backlog.PartitionBacklog`."""

    @property
    def model_slug(self) -> str:
        """Whose."""
        ...

    @property
    def requests(self) -> int:
        """How many wait or run."""
        ...


class Backlog(Protocol):
    """What could be read; see `kafka.backlog.Backlog`."""

    @property
    def rows(self) -> Sequence[Depth]:
        """Partitions."""
        ...

    @property
    def faults(self) -> Mapping[str, str]:
        """Why other models could not be read, by slug."""
        ...


class Backlogs(Protocol):
    """Tells the backlog; see `kafka.admin.Admin`."""

    async def backlog(self, model_slug: str | None = None) -> Backlog:
        """All partitions of one model, or of all.

        Raises:
            Unavailable, SetupError: Kafka does not tell.
        """
        ...


class Queues:
    """Counts requests by model, and refuses those that are too many.

    rate_per_s: how fast a model has been finishing, by its name; 0 when nobody knows.
    """

    def __init__(self, settings: GatewaySettings, rate_per_s: Callable[[str], float]) -> None:
        self._settings = settings
        self._rate_per_s = rate_per_s
        self._read: dict[str, int] = {}
        # Sent less answered by this gateway since the reading began.
        self._since: defaultdict[str, int] = defaultdict(int)
        self._complaint = ""

    def limit(self, model: ModelDeployed) -> int | None:
        """The most that may wait for a model; None: as many as come."""
        return model.manifest.limits.max_queued or self._settings.max_queued

    def depth(self, slug: str) -> int:
        """Requests that wait or run, about."""
        return max(0, self._read.get(slug, 0) + self._since[slug])

    def check(self, model: ModelDeployed) -> None:
        """Refuse when as many wait as may.

        Raises:
            QueueFull: so it is.
        """
        limit = self.limit(model)
        if limit is not None:
            check_queue(model.name, self.depth(model.slug), limit, self._rate_per_s(model.name))

    def sent(self, model: ModelDeployed) -> None:
        """One more goes to Kafka."""
        if self.limit(model) is not None:
            self._since[model.slug] += 1

    def ended(self, model: ModelDeployed) -> None:
        """One that this gateway waited for is over."""
        if self.limit(model) is not None:
            self._since[model.slug] -= 1

    async def refresh(self, backlogs: Backlogs) -> None:
        """Read anew. What Kafka does not tell stays as it was."""
        before = dict(self._since)
        try:
            found = await backlogs.backlog()
        except (HeadraceError, SetupError) as error:
            self._complain(str(error))
            return
        self._complain("; ".join(sorted(found.faults.values())))
        totals = defaultdict(int, {slug: self._read.get(slug, 0) for slug in found.faults})
        for row in found.rows:
            totals[row.model_slug] += row.requests
        self._read = dict(totals)
        for slug, number in before.items():
            if slug not in found.faults:
                self._since[slug] -= number

    def _complain(self, complaint: str) -> None:
        """Say what is new of it."""
        if complaint and complaint != self._complaint:
            _log.warning("queue limits hold by older numbers: %s", complaint)
        self._complaint = complaint

    async def regularly(self, backlogs: Backlogs, models: Callable[[], Sequence[ModelDeployed]]) -> None:
        """Read for ever, while there is a model with a limit."""
        while True:
            if any(self.limit(model) is not None for model in models()):
                await self.refresh(backlogs)
            await asyncio.sleep(_READ_S)
