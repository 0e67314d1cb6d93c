"""Keys of idempotency, on SQLite and PostgreSQL alike."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.core.idempotency import Claim
from headrace.settings import DatabaseSettings
from headrace.store.database import open_engine
from headrace.store.idempotency import Keys

CLAIM = Claim("acme", "key-1", "req_1", "f" * 64, 100.5, 200.5)


async def test_a_key_is_taken_once(engine: AsyncEngine) -> None:
    keys = Keys(engine)
    assert await keys.claim(CLAIM) is None
    assert await keys.claim(CLAIM._replace(request_id="req_2", created_at_s=150.0)) == CLAIM
    assert await keys.claim(CLAIM._replace(key="key-2", request_id="req_3")) is None
    assert await keys.claim(CLAIM._replace(tenant="other", request_id="req_4")) is None


async def test_of_many_at_once_one_wins(engine: AsyncEngine, settings: DatabaseSettings) -> None:
    other = open_engine(settings)
    wanted = [CLAIM._replace(request_id=f"req_{number}") for number in range(20)]
    found = await asyncio.gather(
        *(Keys(each).claim(claim) for claim, each in zip(wanted, [engine, other] * 10, strict=True))
    )
    winners = [claim for claim, taken in zip(wanted, found, strict=True) if taken is None]
    assert len(winners) == 1
    assert {taken for taken in found if taken is not None} == set(winners)
    await other.dispose()


async def test_a_key_that_has_expired_is_free(engine: AsyncEngine) -> None:
    keys = Keys(engine)
    await keys.claim(CLAIM)
    late = CLAIM._replace(request_id="req_2", created_at_s=200.5, expires_at_s=300.0)
    assert await keys.claim(late) is None
    assert await keys.claim(CLAIM._replace(request_id="req_3", created_at_s=250.0)) == late


async def test_what_was_not_queued_gives_its_key_back(engine: AsyncEngine) -> None:
    keys = Keys(engine)
    await keys.claim(CLAIM)
    await keys.release(CLAIM._replace(request_id="req_2"))
    assert await keys.claim(CLAIM._replace(request_id="req_2")) == CLAIM, "it is another's"
    await keys.release(CLAIM)
    assert await keys.claim(CLAIM._replace(request_id="req_2")) is None


async def test_purge_removes_what_has_expired_and_only_that(engine: AsyncEngine) -> None:
    keys = Keys(engine)
    for number in range(4):
        await keys.claim(CLAIM._replace(key=f"key-{number}", expires_at_s=200.0 + number))
    assert await keys.purge(201.0) == 2
    assert await keys.purge(201.0) == 0
    taken = [await keys.claim(CLAIM._replace(key=f"key-{number}")) for number in range(4)]
    assert [claim is None for claim in taken] == [True, True, False, False]
