"""Webhooks: endpoints, deliveries, and every attempt."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headrace.core.archive import FinalResult
from headrace.core.batches import Batch
from headrace.core.webhooks import About, Attempt, Delivery, DeliveryState, Endpoint, Next, subscribed, told
from headrace.store.database import READ_ONLY, insert, translated
from headrace.store.schema import WEBHOOK_ATTEMPTS, WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS

_PURGE_ROWS: Final = 5_000
_KEPT_S: Final = 7 * 86_400.0
"""The log of what was told of a batch; longer than the schedule of attempts."""
_E, _D, _A = WEBHOOK_ENDPOINTS, WEBHOOK_DELIVERIES, WEBHOOK_ATTEMPTS
_DELIVERY: Final = [_D.c[field.name] for field in fields(Delivery)]


async def tell(engine: AsyncEngine, connection: AsyncConnection, results: Sequence[FinalResult]) -> None:
    """Make the deliveries of results, in the transaction that keeps them."""
    endpoints = await _endpoints(connection, {row.tenant for row in results})
    await _add(engine, connection, [each for row in results for each in told(row, endpoints)])


async def tell_about(engine: AsyncEngine, connection: AsyncConnection, about: About) -> None:
    """Make the deliveries of an event, in the transaction in which it happens."""
    await _add(engine, connection, list(subscribed(about, await _endpoints(connection, {about.tenant}))))


async def tell_of_batch(engine: AsyncEngine, connection: AsyncConnection, batch: Batch) -> None:
    """Make the deliveries of a batch's end, in the transaction that ends it."""
    ended_s = time.time()
    about = About(batch.tenant, f"batch.{batch.state}", batch.id, ended_s, ended_s + _KEPT_S)
    await tell_about(engine, connection, about)


class Webhooks:
    """Endpoints by tenant; deliveries by when they are due."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, endpoint: Endpoint) -> Endpoint:
        """Keep an endpoint, unless there is one of this id; the one that is kept."""
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                statement = insert(self._engine, _E).on_conflict_do_nothing(index_elements=[_E.c.id])
                await connection.execute(statement, _row(endpoint))
                row = (await connection.execute(select(_E).where(_E.c.id == endpoint.id))).mappings().one()
        return _endpoint(row)

    async def change(self, endpoint: Endpoint) -> bool:
        """Keep what has changed; False when it is gone."""
        row = _row(endpoint)
        its = and_(_E.c.id == row.pop("id"), _E.c.tenant == endpoint.tenant)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                return (await connection.execute(update(_E).where(its).values(row))).rowcount > 0

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """An endpoint of the tenant."""
        found = await self._read(select(_E).where(_E.c.id == endpoint_id, _E.c.tenant == tenant))
        return _endpoint(found[0]) if found else None

    async def page(self, tenant: str, limit: int, after: str | None) -> list[Endpoint]:
        """The tenant's endpoints, newest first; one more than `limit`, if there is more."""
        wanted = select(_E).where(_E.c.tenant == tenant, _E.c.url != "")
        if after is not None:
            last = await self.get(tenant, after)
            if last is None:
                return []
            at, name = _E.c.created_at_s, _E.c.id
            wanted = wanted.where(or_(at < last.created_at_s, and_(at == last.created_at_s, name < last.id)))
        order = (_E.c.created_at_s.desc(), _E.c.id.desc())
        return [_endpoint(row) for row in await self._read(wanted.order_by(*order).limit(limit + 1))]

    async def remove(self, tenant: str, endpoint_id: str) -> bool:
        """Forget an endpoint; what waits for it fails. False when there is none."""
        its = and_(_E.c.id == endpoint_id, _E.c.tenant == tenant)
        waiting = and_(_D.c.endpoint_id == endpoint_id, _D.c.state == DeliveryState.PENDING)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                gone = (await connection.execute(delete(_E).where(its))).rowcount > 0
                if gone:
                    failed = {"state": DeliveryState.FAILED, "next_at_s": None}
                    await connection.execute(update(_D).where(waiting).values(failed))
                return gone

    async def take_due(self, now_s: float, until_s: float, limit: int) -> list[Delivery]:
        """Deliveries that are due. Nobody else gets them before `until_s`; then they are due again."""
        due = and_(_D.c.state == DeliveryState.PENDING, _D.c.next_at_s <= now_s)
        first = select(_D.c.id).where(due).order_by(_D.c.next_at_s).limit(limit)
        taken = update(_D).where(_D.c.id.in_(first), due).values(next_at_s=until_s).returning(*_DELIVERY)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                rows = (await connection.execute(taken)).mappings().all()
        return [_delivery(row) for row in rows]

    async def put_back(self, delivery: Delivery, at_s: float) -> None:
        """It was not tried: it is due again then."""
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                its = and_(_D.c.id == delivery.id, _D.c.state == DeliveryState.PENDING)
                await connection.execute(update(_D).where(its).values(next_at_s=at_s))

    async def secret_of_urls(self, tenant: str, fresh: str, now_s: float) -> Endpoint:
        """What signs deliveries to URLs that a tenant's requests name; `fresh` if there is no such secret."""
        name = f"we_urls_{sha256(tenant.encode()).hexdigest()[:24]}"
        return await self.add(Endpoint(name, tenant, "", "", (), fresh, now_s))

    async def note(self, delivery: Delivery, attempt: Attempt, then: Next, now_s: float) -> None:
        """Keep what came of an attempt, and what follows."""
        is_over = then.state is not DeliveryState.PENDING
        values = {
            "state": then.state,
            "attempts": attempt.number,
            "next_at_s": then.next_at_s,
            "finished_at_s": now_s if is_over else None,
        }
        tried = {"delivery_id": delivery.id, **attempt._asdict()}
        del tried["retry_after_s"]
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(update(_D).where(_D.c.id == delivery.id).values(values))
                statement = insert(self._engine, _A).on_conflict_do_nothing(
                    index_elements=[_A.c.delivery_id, _A.c.number]
                )
                await connection.execute(statement, tried)
                if then.disables and delivery.endpoint_id is not None:
                    why = {"enabled": False, "disabled_reason": "its URL answered 410 Gone"}
                    await connection.execute(update(_E).where(_E.c.id == delivery.endpoint_id).values(why))

    async def delivery(self, tenant: str, delivery_id: str) -> Delivery | None:
        """A delivery of the tenant."""
        wanted = select(*_DELIVERY).where(_D.c.id == delivery_id, _D.c.tenant == tenant)
        found = await self._read(wanted)
        return _delivery(found[0]) if found else None

    async def deliveries(
        self, tenant: str, endpoint_id: str | None, limit: int, after: str | None
    ) -> list[Delivery]:
        """Deliveries to an endpoint, or to URLs of requests, newest first; one more, if there is more."""
        its = _D.c.endpoint_id.is_(None) if endpoint_id is None else _D.c.endpoint_id == endpoint_id
        wanted = select(*_DELIVERY).where(_D.c.tenant == tenant, its)
        if after is not None:
            last = await self.delivery(tenant, after)
            if last is None:
                return []
            at, name = _D.c.created_at_s, _D.c.id
            wanted = wanted.where(or_(at < last.created_at_s, and_(at == last.created_at_s, name < last.id)))
        order = (_D.c.created_at_s.desc(), _D.c.id.desc())
        return [_delivery(row) for row in await self._read(wanted.order_by(*order).limit(limit + 1))]

    async def attempts(self, delivery_id: str) -> list[Attempt]:
        """Every attempt of a delivery, in order."""
        wanted = select(_A).where(_A.c.delivery_id == delivery_id).order_by(_A.c.number)
        return [
            Attempt(**{name: value for name, value in row.items() if name != "delivery_id"})
            for row in await self._read(wanted)
        ]

    async def replay(self, tenant: str, delivery_id: str, now_s: float) -> bool:
        """Let a delivery be tried once more from the beginning of its schedule; False when there is none."""
        its = and_(_D.c.id == delivery_id, _D.c.tenant == tenant)
        again = {"state": DeliveryState.PENDING, "next_at_s": now_s, "finished_at_s": None}
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                return (await connection.execute(update(_D).where(its).values(again))).rowcount > 0

    async def add_delivery(self, delivery: Delivery) -> None:
        """Make a delivery by itself: a test."""
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await _add(self._engine, connection, [delivery])

    async def purge(self, now_s: float) -> int:
        """Remove some deliveries that have expired, with their attempts; how many. Repeat until it is 0."""
        due = select(_D.c.id).where(_D.c.expires_at_s <= now_s, _D.c.state != DeliveryState.PENDING)
        due = due.limit(_PURGE_ROWS)
        with translated(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(delete(_A).where(_A.c.delivery_id.in_(due)))
                return (await connection.execute(delete(_D).where(_D.c.id.in_(due)))).rowcount

    async def _read(self, statement: Any) -> Sequence[Any]:
        with translated(self._engine.url):
            engine = self._engine.execution_options(**READ_ONLY)
            async with engine.connect() as connection:
                return (await connection.execute(statement)).mappings().all()


async def _endpoints(connection: AsyncConnection, tenants: Iterable[str]) -> list[Endpoint]:
    wanted = select(_E).where(_E.c.tenant.in_(sorted(tenants)), _E.c.enabled)
    return [_endpoint(row) for row in (await connection.execute(wanted)).mappings()]


async def _add(engine: AsyncEngine, connection: AsyncConnection, deliveries: Sequence[Delivery]) -> None:
    if deliveries:
        statement = insert(engine, _D).on_conflict_do_nothing(index_elements=[_D.c.id])
        ordered = sorted(deliveries, key=lambda each: each.id)
        await connection.execute(statement, [asdict(each) for each in ordered])


def _row(endpoint: Endpoint) -> dict[str, Any]:
    row = asdict(endpoint)
    row["events_json"] = json.dumps(row.pop("events"))
    return row


def _endpoint(row: Any) -> Endpoint:
    values = dict(row)
    events = tuple(json.loads(values.pop("events_json")))
    return Endpoint(**values, events=events)


def _delivery(row: Any) -> Delivery:
    return Delivery(**{**row, "state": DeliveryState(row["state"])})
