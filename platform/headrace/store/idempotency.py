"""Keys of idempotency: the one thing that a submit may write."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.core.idempotency import Claim
from headrace.store.database import insert, translated
from headrace.store.schema import IDEMPOTENCY

_PURGE_ROWS = 5_000


class Keys:
    """Fills `core.idempotency.Claims`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(self, wanted: Claim) -> Claim | None:
        """Take the key; the claim that has it, when it is taken. One that has expired has nothing.

        Raises:
            Unavailable: the database does not serve; nothing was taken, or it was.
        """
        table = IDEMPOTENCY
        statement = insert(self._engine, table).values(wanted._asdict())
        ours = ("request_id", "fingerprint", "created_at_s", "expires_at_s")
        statement = statement.on_conflict_do_update(
            index_elements=[table.c.tenant, table.c.key],
            set_={name: statement.excluded[name] for name in ours},
            where=table.c.expires_at_s <= wanted.created_at_s,
        ).returning(table.c.request_id)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                if (await connection.execute(statement)).first() is not None:
                    return None
                its = (table.c.tenant == wanted.tenant) & (table.c.key == wanted.key)
                row = (await connection.execute(select(table).where(its))).mappings().one()
        return Claim(**row)

    async def release(self, claim: Claim) -> None:
        """Nothing was queued: the key is free again, unless another request has it by now."""
        table = IDEMPOTENCY
        its = (table.c.tenant == claim.tenant) & (table.c.key == claim.key)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(delete(table).where(its, table.c.request_id == claim.request_id))

    async def purge(self, now_s: float) -> int:
        """Remove some that have expired; returns how many. Repeat until it returns 0."""
        table = IDEMPOTENCY
        due = select(table.c.request_id).where(table.c.expires_at_s <= now_s).limit(_PURGE_ROWS)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                removed = await connection.execute(
                    delete(table).where(table.c.expires_at_s <= now_s, table.c.request_id.in_(due))
                )
                return removed.rowcount
