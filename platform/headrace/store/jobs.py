"""The index of jobs, a moment behind the request topics."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from sqlalchemy import and_, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.states import State
from headrace.core.jobs import Job, Page
from headrace.store.database import READ_ONLY, insert, translated
from headrace.store.schema import JOBS, RESULTS

_PURGE_ROWS: Final = 5_000
_FROM_REQUEST: Final = (
    *("model", "path", "lane", "topic", "partition", "offset", "stream", "request", "deadline_s"),
)
"""What only the request says; how a job stands is its result's to say."""

_SELECT: Final = select(*(JOBS.c[field.name] for field in fields(Job))).where(~JOBS.c.forgotten)


class Jobs:
    """Jobs by id and by tenant."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def index(self, jobs: Sequence[Job]) -> None:
        """Add queued jobs; of those that are there already, what only the request says is written anew.

        Raises:
            InvalidRequest: the database refuses a value of some job; none was added.
            Unavailable: the database does not serve.
        """
        # Of a job that comes twice the later record counts; in one order for all writers.
        latest = {job.id: job for job in jobs}
        if not latest:
            return
        statement = insert(self._engine, JOBS)
        said = statement.excluded
        merged: dict[str, Any] = {name: said[name] for name in _FROM_REQUEST}
        # Known by its result alone until now: that began when it was asked for.
        merged["created_at_s"] = case((JOBS.c.topic.is_(None), said.created_at_s), else_=JOBS.c.created_at_s)
        merged["attempt"] = case((said.attempt > JOBS.c.attempt, said.attempt), else_=JOBS.c.attempt)
        statement = statement.on_conflict_do_update(index_elements=[JOBS.c.id], set_=merged)
        rows = [asdict(latest[name]) for name in sorted(latest)]
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(statement, rows)

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """A job of the tenant; None when there is none (yet, or any more)."""
        wanted = _SELECT.where(JOBS.c.id == job_id, JOBS.c.tenant == tenant)
        found = await self._read(wanted)
        return found[0] if found else None

    async def page(self, tenant: str, page: Page) -> list[Job]:
        """Jobs of the tenant in the order of their times; one more than `limit`, if there is more."""
        wanted = _SELECT.where(JOBS.c.tenant == tenant)
        if page.states:
            wanted = wanted.where(JOBS.c.state.in_(sorted(page.states)))
        if page.model is not None:
            wanted = wanted.where(JOBS.c.model == page.model)
        if page.after is not None:
            before = await self.get(tenant, page.after)
            if before is None:
                return []
            wanted = wanted.where(_beyond(before, newest_first=page.newest_first))
        at, name = JOBS.c.created_at_s, JOBS.c.id
        order = (at.desc(), name.desc()) if page.newest_first else (at, name)
        return await self._read(wanted.order_by(*order).limit(page.limit + 1))

    async def unfinished(self) -> dict[str, int]:
        """Jobs that have not ended, by tenant; none of those that have none."""
        wanted = (
            select(JOBS.c.tenant, func.count())
            .where(JOBS.c.state == State.QUEUED, ~JOBS.c.forgotten)
            .group_by(JOBS.c.tenant)
        )
        with translated(self._engine.url):
            engine = self._engine.execution_options(**READ_ONLY)
            async with engine.connect() as connection:
                rows = (await connection.execute(wanted)).all()
        return {row[0]: row[1] for row in rows}

    async def forget(self, tenant: str, job_id: str) -> bool:
        """Remove a job of the tenant, and its result; False when there is none."""
        its = and_(JOBS.c.id == job_id, JOBS.c.tenant == tenant)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                done = await connection.execute(update(JOBS).where(its).values(forgotten=True, request=None))
                if done.rowcount:
                    await connection.execute(delete(RESULTS).where(RESULTS.c.request_id == job_id))
                return done.rowcount > 0

    async def was_forgotten(self, job_id: str) -> bool:
        """Whether somebody has removed it."""
        wanted = select(JOBS.c.forgotten).where(JOBS.c.id == job_id)
        with translated(self._engine.url):
            engine = self._engine.execution_options(**READ_ONLY)
            async with engine.connect() as connection:
                return bool((await connection.execute(wanted)).scalar())

    async def purge(self, now_s: float) -> int:
        """Remove some jobs that have expired; returns how many. Repeat until it returns 0."""
        due = select(JOBS.c.id).where(JOBS.c.expires_at_s <= now_s).limit(_PURGE_ROWS)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                removed = await connection.execute(delete(JOBS).where(JOBS.c.id.in_(due)))
                return removed.rowcount

    async def _read(self, statement: Any) -> list[Job]:
        with translated(self._engine.url):
            engine = self._engine.execution_options(**READ_ONLY)
            async with engine.connect() as connection:
                rows = (await connection.execute(statement)).mappings().all()
        return [Job(**{**row, "state": State(row["state"])}) for row in rows]


def _beyond(job: Job, *, newest_first: bool) -> Any:
    at, name = JOBS.c.created_at_s, JOBS.c.id
    if newest_first:
        return or_(at < job.created_at_s, and_(at == job.created_at_s, name < job.id))
    return or_(at > job.created_at_s, and_(at == job.created_at_s, name > job.id))
