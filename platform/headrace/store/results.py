"""The archive of final results: the first one for each request is kept until it expires."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.store.database import READ_ONLY, translated
from headrace.store.schema import RESULTS

_PURGE_ROWS: Final = 5_000
"""Rows a purge removes at once: a short transaction, which writers need not wait for."""


class Results:
    """Fills `core.archive.Archive`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add_many(self, rows: Sequence[FinalResult]) -> int:
        """Keep the results that are the first for their request; returns how many were.

        Raises:
            InvalidRequest: the database refuses a value of some row; none was kept.
            Unavailable: the database does not serve; none was kept, or all were.
        """
        if not rows:
            return 0
        # In one order for all writers, so that two of them with the same rows cannot lock each other out.
        values = [asdict(row) for row in sorted(rows, key=lambda row: row.request_id)]
        statement = self._insert_or_ignore().returning(RESULTS.c.request_id)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                added = await connection.execute(statement, values)
                return len(added.all())

    async def get(self, request_id: str) -> FinalResult | None:
        """The result of a request; None when there is none (yet, or any more).

        Raises:
            Unavailable: the database does not serve.
        """
        statement = select(RESULTS).where(RESULTS.c.request_id == request_id)
        with translated(self._engine.url):
            engine = self._engine.execution_options(**READ_ONLY)
            async with engine.connect() as connection:
                row = (await connection.execute(statement)).mappings().one_or_none()
        return None if row is None else FinalResult(**{**row, "state": State(row["state"])})

    async def purge(self, now_s: float) -> int:
        """Remove some results that have expired; returns how many. Repeat until it returns 0.

        Raises:
            Unavailable: the database does not serve.
        """
        due = select(RESULTS.c.request_id).where(RESULTS.c.expires_at_s <= now_s).limit(_PURGE_ROWS)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                removed = await connection.execute(delete(RESULTS).where(RESULTS.c.request_id.in_(due)))
                return removed.rowcount

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    def _insert_or_ignore(self) -> Any:
        # The one statement that the two dialects spell by different constructs; each costs 4 MB to import.
        dialect: Any
        if self._engine.dialect.name == "sqlite":
            from sqlalchemy.dialects import sqlite as dialect  # noqa: PLC0415
        else:
            from sqlalchemy.dialects import postgresql as dialect  # noqa: PLC0415
        return dialect.insert(RESULTS).on_conflict_do_nothing(index_elements=[RESULTS.c.request_id])
