"""The archive, on SQLite and PostgreSQL alike."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.errors import InvalidRequest, Unavailable
from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.settings import DatabaseSettings
from headrace.store.database import open_engine
from headrace.store.results import Results

_ROW = FinalResult(
    request_id="req_1",
    state=State.COMPLETED,
    http_status=200,
    model=None,
    content_type="application/json",
    body=b'{"text":"\x00 \xff any bytes"}',
    created_at_s=1_790_000_000.125,
    expires_at_s=1_790_086_400.125,
)


async def test_what_goes_in_comes_out(engine: AsyncEngine) -> None:
    results = Results(engine)
    assert await results.add_many([_ROW]) == 1
    assert await results.get("req_1") == _ROW
    assert await results.get("req_2") is None


async def test_the_first_final_result_wins(engine: AsyncEngine) -> None:
    results = Results(engine)
    late = replace(_ROW, state=State.EXPIRED, body=b"late")
    assert await results.add_many([_ROW, late, replace(_ROW, request_id="req_2")]) == 2
    assert await results.add_many([late]) == 0
    assert await results.get("req_1") == _ROW


async def test_nothing_to_add(engine: AsyncEngine) -> None:
    assert await Results(engine).add_many([]) == 0


async def test_many_at_once_from_several_writers(engine: AsyncEngine, settings: DatabaseSettings) -> None:
    other = open_engine(settings)
    rows = [replace(_ROW, request_id=f"req_{number}") for number in range(1_500)]
    added = await asyncio.gather(*(Results(each).add_many(rows) for each in (engine, other, engine)))
    await other.dispose()
    assert sum(added) == 1_500


async def test_purge_removes_what_has_expired_and_only_that(engine: AsyncEngine) -> None:
    results = Results(engine)
    await results.add_many([_ROW, replace(_ROW, request_id="req_2", expires_at_s=_ROW.expires_at_s + 1)])
    assert await results.purge(_ROW.expires_at_s) == 1
    assert await results.purge(_ROW.expires_at_s) == 0
    assert await results.get("req_1") is None
    assert await results.get("req_2") is not None


async def test_a_purge_is_bounded(engine: AsyncEngine) -> None:
    results = Results(engine)
    await results.add_many([replace(_ROW, request_id=f"req_{number}") for number in range(5_001)])
    assert await results.purge(_ROW.expires_at_s) == 5_000
    assert await results.purge(_ROW.expires_at_s) == 1


async def test_a_value_that_no_database_takes_is_named_as_such(engine: AsyncEngine) -> None:
    results = Results(engine)
    with pytest.raises(InvalidRequest, match="refuses"):
        await results.add_many([_ROW, replace(_ROW, request_id="req_2", http_status=2**80)])
    assert await results.get("req_1") is None


async def test_tables_that_are_missing_say_what_to_do(settings: DatabaseSettings) -> None:
    engine = open_engine(settings)
    with pytest.raises(Unavailable, match="headrace migrate"):
        await Results(engine).add_many([_ROW])
    await engine.dispose()
