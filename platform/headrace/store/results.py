"""The archive of final results: the first one for each request is kept until it expires.

What follows from a result is written with it: the state of its job, the counts of its batch, webhooks.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headrace.contracts import ids
from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.core.batches import UNFINISHED
from headrace.store import usage, webhooks
from headrace.store.database import READ_ONLY, insert, translated
from headrace.store.schema import BATCHES, JOBS, RESULTS

_PURGE_ROWS: Final = 5_000
"""Rows a purge removes at once: a short transaction, which writers need not wait for."""
_COLUMNS: Final = tuple(field.name for field in fields(FinalResult) if field.name in RESULTS.c)
_GOOD: Final = frozenset({State.COMPLETED, State.INCOMPLETE})


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
        ordered = sorted(rows, key=lambda row: row.request_id)
        statement = insert(self._engine, RESULTS).on_conflict_do_nothing(
            index_elements=[RESULTS.c.request_id]
        )
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                values = [{name: getattr(row, name) for name in _COLUMNS} for row in ordered]
                added = await connection.execute(statement.returning(RESULTS.c.request_id), values)
                new = set(added.scalars())
                first = {row.request_id: row for row in reversed(ordered) if row.request_id in new}
                await self._follow_up(connection, [first[name] for name in sorted(first)])
                return len(new)

    async def _follow_up(self, connection: AsyncConnection, rows: Sequence[FinalResult]) -> None:
        if jobs := [_job(row) for row in rows if row.batch_id is None]:
            statement = insert(self._engine, JOBS)
            ended = ("state", "http_status", "finished_at_s", "attempt", "expires_at_s")
            merged = {name: statement.excluded[name] for name in ended}
            await connection.execute(
                statement.on_conflict_do_update(index_elements=[JOBS.c.id], set_=merged), jobs
            )
        if rows:
            await webhooks.tell(self._engine, connection, rows)
            await usage.count(connection, rows)
        for batch_id, counts in _counts(rows).items():
            grown = {BATCHES.c[name]: BATCHES.c[name] + number for name, number in counts.items()}
            # A batch that is over has its final counts.
            unfinished = BATCHES.c.state.in_(UNFINISHED)
            await connection.execute(
                update(BATCHES).where(BATCHES.c.id == batch_id, unfinished).values(grown)
            )

    async def get(self, request_id: str) -> FinalResult | None:
        """The result of a request; None when there is none (yet, or any more).

        Raises:
            Unavailable: the database does not serve.
        """
        statement = select(*(RESULTS.c[name] for name in _COLUMNS)).where(RESULTS.c.request_id == request_id)
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
        # Lines of a batch wait until its files are written.
        unfinished = select(BATCHES.c.id).where(BATCHES.c.state.in_(UNFINISHED))
        is_free = RESULTS.c.batch_id.is_(None) | RESULTS.c.batch_id.not_in(unfinished)
        is_due = RESULTS.c.expires_at_s <= now_s
        due = select(RESULTS.c.request_id).where(is_due, is_free).limit(_PURGE_ROWS)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                removed = await connection.execute(delete(RESULTS).where(RESULTS.c.request_id.in_(due)))
                return removed.rowcount

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def _job(row: FinalResult) -> dict[str, Any]:
    """A job as its result tells of it; the index of requests adds what only the request says."""
    return {
        "id": row.request_id,
        "tenant": row.tenant,
        "model": row.model or "",
        "path": row.path,
        "lane": "",
        "state": row.state,
        "http_status": row.http_status,
        "attempt": row.attempt,
        "stream": False,
        # Ids of ours say when they were made, so that lists are in order before the index has caught up.
        "created_at_s": ids.made_at_s(row.request_id) or row.created_at_s,
        "finished_at_s": row.created_at_s,
        "expires_at_s": row.expires_at_s,
    }


def _counts(rows: Iterable[FinalResult]) -> dict[str, dict[str, int]]:
    """What batches grow by; in the order of their ids, as all writers have it."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        if row.batch_id is not None:
            used, counts = row.usage, found[row.batch_id]
            is_good = row.state in _GOOD and row.http_status < 400
            counts["completed" if is_good else "failed"] += 1
            counts["input_tokens"] += used.input_tokens or 0
            counts["output_tokens"] += used.output_tokens or 0
    return {batch_id: dict(found[batch_id]) for batch_id in sorted(found)}
