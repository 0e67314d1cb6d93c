"""How many jobs of each tenant have not ended: what SQL said a moment ago, and what was sent here since."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from headrace.contracts.errors import HeadraceError
from headrace.core.quotas import check_jobs
from headrace.gateway.tenants import Account, who

_log = logging.getLogger(__name__)

_READ_S: Final = 2.0


class Index(Protocol):
    """The index of jobs; see `store.jobs.Jobs`."""

    async def unfinished(self) -> Mapping[str, int]:
        """Jobs that have not ended, by tenant.

        Raises:
            Unavailable: the database does not serve.
        """
        ...


class Unfinished:
    """Counts jobs by tenant, and refuses those that are too many. limit None: there may be any number."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._read: Mapping[str, int] = {}
        self._since: Counter[str] = Counter()
        self._complaint = ""

    def check(self, account: Account) -> None:
        """Refuse a job when its tenant has as many as it may.

        Raises:
            QueueFull: so it is.
        """
        if self._limit is not None:
            tenant = _tenant(account)
            check_jobs(who(account), self._read.get(tenant, 0) + self._since[tenant], self._limit)

    def sent(self, account: Account) -> None:
        """One more goes to Kafka."""
        if self._limit is not None:
            self._since[_tenant(account)] += 1

    async def refresh(self, index: Index) -> None:
        """Read anew. What was sent meanwhile may not be indexed yet, so it counts until the next reading."""
        before = self._since.copy()
        try:
            self._read = await index.unfinished()
        except HeadraceError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("limits of jobs hold by older numbers: %s", error)
            return
        self._complaint = ""
        self._since -= before

    async def regularly(self, index: Callable[[], Index]) -> None:
        """Read for ever, if there is a limit."""
        while True:
            if self._limit is not None:
                await self.refresh(index())
            await asyncio.sleep(_READ_S)


def _tenant(account: Account) -> str:
    return (account.tenant or b"").decode()
