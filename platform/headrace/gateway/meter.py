"""What accounts use in a day, at all gateways together, without a request that waits for SQL.

A gateway counts in memory, adds what it has counted to the ledger every two seconds, and reads the sums back.
So a quota may be passed by what all gateways take in meanwhile, and one that is killed forgets that much.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from headrace.contracts.errors import HeadraceError
from headrace.core.limits import estimate
from headrace.core.quotas import NOTHING, Ledger, Spent, check_quota, day_of, tenant_account
from headrace.core.usage import usage_of
from headrace.gateway.tenants import Account, limits_of, who
from headrace.settings import GatewaySettings

_log = logging.getLogger(__name__)

FLUSH_S: Final = 2.0


class Meter:
    """Counts by account. Those whom no quota limits are not counted."""

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = time.time) -> None:
        self._limits = limits_of(settings)
        self._clock = clock
        self._day = 0
        # All accounts of the day that were seen here; bounded by how many tenants and keys there are.
        self._read: dict[str, Spent] = {}
        self._since: dict[str, Spent] = {}
        self._new = asyncio.Event()
        self._complaint = ""

    def check(self, account: Account) -> None:
        """Refuse whoever has used up its day.

        Raises:
            QuotaSpent: it has.
        """
        limits = account.limits or self._limits
        if limits.is_daily:
            now_s = self._clock()
            self._begin(day_of(now_s))
            name = _name(account)
            spent = self._read.get(name, NOTHING).plus(self._since.get(name, NOTHING))
            check_quota(who(account), limits, spent, now_s)

    def took(self, account: Account) -> None:
        """A request was taken in."""
        self._add(account, Spent(requests=1))

    def used(self, account: Account, size_bytes: int, answer: bytes) -> None:
        """A request is over: its tokens are what the answer says, or what its size makes likely."""
        if (account.limits or self._limits).is_daily:
            said = usage_of(answer)
            tokens = (said.input_tokens or 0) + (said.output_tokens or 0)
            self._add(account, Spent(tokens=tokens or estimate(size_bytes)))

    async def flush(self, ledger: Ledger) -> None:
        """Add to the ledger, and read. While it does not serve, all goes on by what is known here."""
        self._new.clear()
        day, mine = self._day, dict(self._since)
        names = sorted(mine.keys() | self._read.keys())
        if not names:
            return
        try:
            await ledger.add(day, mine)
            found = await ledger.of(day, names)
        except HeadraceError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("quotas hold by older numbers: %s", error)
            return
        self._complaint = ""
        if day == self._day:
            self._read = found
            for name, spent in mine.items():
                left = self._since[name].less(spent)
                self._since.pop(name)
                if left != NOTHING:
                    self._since[name] = left

    async def regularly(self, ledger: Callable[[], Ledger]) -> None:
        """Flush for ever: soon when an account is new, for others may have spent what it has."""
        while True:
            try:
                async with asyncio.timeout(FLUSH_S):
                    await self._new.wait()
            except TimeoutError:
                pass
            if self._since or self._read:
                await self.flush(ledger())

    def _add(self, account: Account, spent: Spent) -> None:
        if (account.limits or self._limits).is_daily:
            name = _name(account)
            if name not in self._read and name not in self._since:
                self._new.set()
            self._since[name] = self._since.get(name, NOTHING).plus(spent)

    def _begin(self, day: int) -> None:
        if day != self._day:
            # What was counted in the last two seconds of a day is not worth its ledger.
            self._day, self._read, self._since = day, {}, {}


def _name(account: Account) -> str:
    return account.key or tenant_account((account.tenant or b"").decode())
