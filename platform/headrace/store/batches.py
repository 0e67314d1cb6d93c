"""Batches, who works on each, and the results of their lines."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.core.batches import UNFINISHED, Batch, BatchState
from headrace.core.files import FileState, StoredFile
from headrace.core.pages import PageQuery
from headrace.store.database import READ_ONLY, translated
from headrace.store.files import paged
from headrace.store.schema import BATCHES, FILES, RESULTS

Ended = Callable[[AsyncConnection, Batch], Awaitable[None]]
"""Told of a batch's end in the transaction that ends it."""

_COLUMNS: Final = tuple(BATCHES.c[field.name] for field in fields(Batch))
_RESULT_COLUMNS: Final = tuple(
    RESULTS.c[field.name] for field in fields(FinalResult) if field.name in RESULTS.c
)


class Batches:
    """Fills what gateway and dispatcher ask of batches. Every call may raise `Unavailable`."""

    def __init__(self, engine: AsyncEngine, ended: Ended | None = None) -> None:
        self._engine = engine
        self._ended = ended

    async def add(self, batch: Batch, file: StoredFile | None = None) -> None:
        """A new batch; with the file that is to be made for it, if it has none yet."""
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                if file is not None:
                    await connection.execute(insert(FILES).values(asdict(file)))
                await connection.execute(insert(BATCHES).values(asdict(batch)))

    async def get(self, batch_id: str, tenant: str | None = None) -> Batch | None:
        """A batch of the tenant's; None: of anybody's."""
        where = BATCHES.c.id == batch_id
        if tenant is not None:
            where = and_(where, BATCHES.c.tenant == tenant)
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                row = (await connection.execute(select(*_COLUMNS).where(where))).mappings().one_or_none()
        return None if row is None else _batch(row)

    async def list(self, tenant: str, query: PageQuery) -> tuple[Sequence[Batch], bool]:
        """The tenant's batches, and whether there are more."""
        statement = select(*_COLUMNS).where(BATCHES.c.tenant == tenant)
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                found = await connection.execute(paged(statement, BATCHES, tenant, query))
                rows = [_batch(row) for row in found.mappings()]
        return rows[: query.limit], len(rows) > query.limit

    async def cancel(self, batch_id: str, tenant: str, now_s: float) -> Batch | None:
        """The batch as it is then: cancelling, unless it was over or nearly so. None when there is none."""
        may_be = BATCHES.c.state.in_((BatchState.VALIDATING, BatchState.IN_PROGRESS))
        where = and_(BATCHES.c.id == batch_id, BATCHES.c.tenant == tenant, may_be)
        values = {"state": BatchState.CANCELLING, "cancelling_at_s": now_s}
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(update(BATCHES).where(where).values(values))
        return await self.get(batch_id, tenant)

    async def claim(self, owner: str, until_s: float, now_s: float, limit: int) -> Sequence[str]:
        """Batches that nobody works on, now the owner's."""
        is_free = or_(BATCHES.c.owned_until_s.is_(None), BATCHES.c.owned_until_s < now_s)
        where = and_(BATCHES.c.state.in_(UNFINISHED), is_free)
        some = select(BATCHES.c.id).where(where).order_by(BATCHES.c.created_at_s).limit(limit)
        if self._engine.dialect.name == "postgresql":
            some = some.with_for_update(skip_locked=True)
        statement = (
            update(BATCHES)
            .where(BATCHES.c.id.in_(some), where)
            .values(owner=owner, owned_until_s=until_s)
            .returning(BATCHES.c.id)
        )
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                return list((await connection.execute(statement)).scalars())

    async def renew(self, owner: str, until_s: float) -> None:
        """The owner goes on with all that it has."""
        where = and_(BATCHES.c.owner == owner, BATCHES.c.state.in_(UNFINISHED))
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(update(BATCHES).where(where).values(owned_until_s=until_s))

    async def release(self, owner: str, batch_id: str | None = None) -> None:
        """The owner works on it no more; None: on none."""
        where = BATCHES.c.owner == owner
        if batch_id is not None:
            where = and_(where, BATCHES.c.id == batch_id)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                statement = update(BATCHES).where(where).values(owner=None, owned_until_s=None)
                await connection.execute(statement)

    async def held(self, batch_id: str, owner: str) -> Batch | None:
        """The batch as it is; None when it is the owner's no more."""
        where = and_(BATCHES.c.id == batch_id, BATCHES.c.owner == owner)
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                row = (await connection.execute(select(*_COLUMNS).where(where))).mappings().one_or_none()
        return None if row is None else _batch(row)

    async def change(self, batch_id: str, owner: str, values: Mapping[str, Any], *states: BatchState) -> bool:
        """Write what its owner has found out; False when it is not the owner's, or in none of `states`."""
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                where = _is_held(batch_id, owner, states)
                return (
                    await connection.execute(update(BATCHES).where(where).values(dict(values)))
                ).rowcount == 1

    async def finish(
        self, batch: Batch, owner: str, values: Mapping[str, Any], files: Sequence[StoredFile]
    ) -> bool:
        """Its final state, with its files, at once; False when somebody else was faster."""
        where = _is_held(batch.id, owner, (batch.state,))
        released = {**values, "owner": None, "owned_until_s": None}
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                statement = update(BATCHES).where(where).values(released).returning(*_COLUMNS)
                row = (await connection.execute(statement)).mappings().one_or_none()
                if row is None:
                    return False
                for file in files:
                    made = {**asdict(file), "state": FileState.READY}
                    await connection.execute(update(FILES).where(FILES.c.id == file.id).values(made))
                if self._ended is not None:
                    await self._ended(connection, _batch(row))
                return True

    async def results(self, batch_id: str, first: int, limit: int) -> Sequence[FinalResult]:
        """Results of its lines from `first` on, in their order, at most `limit`."""
        statement = (
            select(*_RESULT_COLUMNS)
            .where(RESULTS.c.batch_id == batch_id, RESULTS.c.line >= first)
            .order_by(RESULTS.c.line)
            .limit(limit)
        )
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                rows = (await connection.execute(statement)).mappings()
                return [FinalResult(**{**row, "state": State(row["state"])}) for row in rows]

    async def first_gap(self, batch_id: str, first: int, last: int) -> int:
        """The first line from `first` to `last` without a result; `last` + 1 when there is none."""
        within = RESULTS.c.line.between(first, last)
        numbered = (
            select(RESULTS.c.line, func.row_number().over(order_by=RESULTS.c.line).label("place"))
            .where(RESULTS.c.batch_id == batch_id, within)
            .subquery()
        )
        whole = select(func.count()).where(numbered.c.line == numbered.c.place + first - 1)
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                return first + int((await connection.execute(whole)).scalar_one())


def _is_held(batch_id: str, owner: str, states: Sequence[BatchState]) -> ColumnElement[bool]:
    where = and_(BATCHES.c.id == batch_id, BATCHES.c.owner == owner)
    return and_(where, BATCHES.c.state.in_(states)) if states else where


def _batch(row: Any) -> Batch:
    return Batch(**{**row, "state": BatchState(row["state"])})
