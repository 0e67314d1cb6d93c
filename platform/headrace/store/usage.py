"""What accounts have used in a day: added up by all gateways, and by the archive for what is kept."""

from collections.abc import Iterable

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headrace.core.archive import FinalResult
from headrace.core.quotas import Spent, day_of, tenant_account
from headrace.store.database import READ_ONLY, insert, translated
from headrace.store.schema import USAGE

_KEPT_DAYS = 400


class Usage:
    """Fills `core.quotas.Ledger`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, day: int, spent: dict[str, Spent]) -> None:
        """Add to accounts; they are there from then on, even with nothing spent.

        Raises:
            Unavailable: the database does not serve; nothing was added, or all was.
        """
        if not spent:
            return
        statement = insert(self._engine, USAGE)
        grown = {name: USAGE.c[name] + statement.excluded[name] for name in Spent._fields}
        statement = statement.on_conflict_do_update(index_elements=[USAGE.c.day, USAGE.c.account], set_=grown)
        # In one order for all writers, so that no two of them lock each other out.
        rows = [{"day": day, "account": name, **spent[name]._asdict()} for name in sorted(spent)]
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(statement, rows)

    async def of(self, day: int, accounts: list[str]) -> dict[str, Spent]:
        """What these accounts have spent; those that are not there are absent.

        Raises:
            Unavailable: the database does not serve.
        """
        statement = select(USAGE.c.account, USAGE.c.requests, USAGE.c.tokens).where(
            USAGE.c.day == day, USAGE.c.account.in_(accounts)
        )
        with translated(self._engine.url):
            engine = self._engine.execution_options(**READ_ONLY)
            async with engine.connect() as connection:
                rows = (await connection.execute(statement)).all()
        return {account: Spent(requests, tokens) for account, requests, tokens in rows}

    async def purge(self, now_s: float) -> int:
        """Remove days that are over for long; returns how many rows."""
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                old = delete(USAGE).where(USAGE.c.day < day_of(now_s) - _KEPT_DAYS)
                return (await connection.execute(old)).rowcount


async def count(connection: AsyncConnection, rows: Iterable[FinalResult]) -> None:
    """Add what results took to the accounts of their tenants that are counted, in the results' transaction.

    A job was counted as a request when it was submitted; a batch's line is counted here.
    """
    found: dict[tuple[int, str], Spent] = {}
    for row in rows:
        used = row.usage
        tokens = (used.input_tokens or 0) + (used.output_tokens or 0)
        place = day_of(row.created_at_s), tenant_account(row.tenant)
        found[place] = found.get(place, Spent()).plus(Spent(int(row.batch_id is not None), tokens))
    # Only an account that a gateway has begun: without quotas there is none, and this finds nothing to do.
    statement = (
        update(USAGE)
        .where(USAGE.c.day == bindparam("of_day"), USAGE.c.account == bindparam("of_account"))
        .values(
            requests=USAGE.c.requests + bindparam("more_requests"),
            tokens=USAGE.c.tokens + bindparam("more_tokens"),
        )
    )
    values = [
        {"of_day": day, "of_account": account, "more_requests": spent.requests, "more_tokens": spent.tokens}
        for (day, account), spent in sorted(found.items())
        if spent != Spent()
    ]
    if values:
        await connection.execute(statement, values)
