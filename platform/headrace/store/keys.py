"""API keys in SQL."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.core.keys import ApiKey, of_row, row_of
from headrace.store.database import READ_ONLY, insert, translated
from headrace.store.schema import API_KEYS


class ApiKeys:
    """Fills `gateway.keyring.KeySource`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def all(self) -> Sequence[ApiKey]:
        """Every key, those that were revoked or have expired too; in the order of their making.

        Raises:
            Unavailable: the database does not serve.
        """
        statement = select(API_KEYS).order_by(API_KEYS.c.created_at_s, API_KEYS.c.id)
        with translated(self._engine.url):
            engine = self._engine.execution_options(**READ_ONLY)
            async with engine.connect() as connection:
                rows = (await connection.execute(statement)).mappings().all()
        return [of_row(dict(row)) for row in rows]

    async def add(self, key: ApiKey) -> None:
        """Keep a key.

        Raises:
            InvalidRequest: the database refuses a value, or has a key of this id.
            Unavailable: the database does not serve.
        """
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(insert(self._engine, API_KEYS).values(row_of(key)))

    async def revoke(self, key_id: str, now_s: float) -> bool:
        """Let a key open nothing any more; False when there is none such. The first time counts.

        Raises:
            Unavailable: the database does not serve.
        """
        table = API_KEYS
        its = table.c.id == key_id
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                if (await connection.execute(select(table.c.id).where(its))).first() is None:
                    return False
                statement = update(table).where(its, table.c.revoked_at_s.is_(None))
                await connection.execute(statement.values(revoked_at_s=now_s))
                return True
