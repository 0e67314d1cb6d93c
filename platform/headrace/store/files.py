"""What is known of files. Their bytes are elsewhere, under `object_key`."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.core.batches import UNFINISHED
from headrace.core.files import FileState, Kept, StoredFile
from headrace.core.pages import PageQuery
from headrace.store.database import READ_ONLY, translated
from headrace.store.schema import BATCHES, FILES

_COLUMNS: Final = tuple(FILES.c[field.name] for field in fields(StoredFile))


class Files:
    """Fills `core.files.FileStore`, and knows what may be removed. Every call may raise `Unavailable`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, file: StoredFile) -> None:
        """A new file."""
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(insert(FILES).values(asdict(file)))

    async def ready(self, file_id: str, kept: Kept, expires_at_s: float | None) -> bool:
        """Its object is whole; False when it is no longer pending."""
        is_it = and_(FILES.c.id == file_id, FILES.c.state == FileState.PENDING)
        values = {"state": FileState.READY, "expires_at_s": expires_at_s, **kept._asdict()}
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                return (await connection.execute(update(FILES).where(is_it).values(values))).rowcount == 1

    async def get(self, file_id: str, tenant: str) -> StoredFile | None:
        """A ready file of the tenant's."""
        return await self._one(and_(FILES.c.id == file_id, _is_ready(tenant)))

    async def known(self, file_id: str) -> StoredFile | None:
        """A file in whatever state, of whomever: its object is there as long as a batch needs it."""
        return await self._one(FILES.c.id == file_id)

    async def list(
        self, tenant: str, query: PageQuery, purpose: str | None = None
    ) -> tuple[Sequence[StoredFile], bool]:
        """Ready files, and whether there are more."""
        wanted = _is_ready(tenant)
        if purpose is not None:
            wanted = and_(wanted, FILES.c.purpose == purpose)
        statement = paged(select(*_COLUMNS).where(wanted), FILES, tenant, query)
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                rows = [_file(row) for row in (await connection.execute(statement)).mappings()]
        return rows[: query.limit], len(rows) > query.limit

    async def delete(self, file_id: str, tenant: str, now_s: float) -> bool:
        """It is gone for its owner; its object goes soon after. False when there was none."""
        is_it = and_(FILES.c.id == file_id, _is_ready(tenant))
        gone = {"state": FileState.GONE, "expires_at_s": now_s}
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                return (await connection.execute(update(FILES).where(is_it).values(gone))).rowcount == 1

    async def used_bytes(self, tenant: str) -> int:
        """How much the tenant keeps."""
        total = select(func.coalesce(func.sum(FILES.c.size_bytes), 0)).where(_is_ready(tenant))
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                return int((await connection.execute(total)).scalar_one())

    async def due(self, now_s: float, limit: int) -> Sequence[StoredFile]:
        """Files whose objects may be removed: expired, and read by no batch any more."""
        unfinished = BATCHES.c.state.in_(UNFINISHED)
        needed = select(BATCHES.c.input_file_id).where(unfinished)
        # A batch that runs the failed lines of another reads the other's files.
        retried = select(BATCHES.c.retry_of).where(unfinished, BATCHES.c.retry_of.is_not(None))
        sources = select(BATCHES.c.input_file_id).where(BATCHES.c.id.in_(retried))
        statement = (
            select(*_COLUMNS)
            .where(FILES.c.expires_at_s <= now_s, FILES.c.id.not_in(needed), FILES.c.id.not_in(sources))
            .limit(limit)
        )
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                return [_file(row) for row in (await connection.execute(statement)).mappings()]

    async def forget(self, file_id: str) -> None:
        """Its object was removed."""
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(delete(FILES).where(FILES.c.id == file_id))

    async def _one(self, where: ColumnElement[bool]) -> StoredFile | None:
        with translated(self._engine.url):
            async with self._engine.execution_options(**READ_ONLY).connect() as connection:
                row = (await connection.execute(select(*_COLUMNS).where(where))).mappings().one_or_none()
        return None if row is None else _file(row)


def paged(statement: Select[Any], table: Table, tenant: str, query: PageQuery) -> Select[Any]:
    """One row more than the page, in the order of creation; nothing after an id that is not the tenant's."""
    created, row_id = table.c.created_at_s, table.c.id
    if query.after is not None:
        mark = select(created).where(row_id == query.after, table.c.tenant == tenant).scalar_subquery()
        is_next = created > mark if query.ascending else created < mark
        id_is_next = row_id > query.after if query.ascending else row_id < query.after
        statement = statement.where(or_(is_next, and_(created == mark, id_is_next)))
    order = (created.asc(), row_id.asc()) if query.ascending else (created.desc(), row_id.desc())
    return statement.order_by(*order).limit(query.limit + 1)


def _is_ready(tenant: str) -> ColumnElement[bool]:
    return and_(FILES.c.tenant == tenant, FILES.c.state == FileState.READY)


def _file(row: Any) -> StoredFile:
    return StoredFile(**{**row, "state": FileState(row["state"])})
