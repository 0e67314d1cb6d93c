"""The index of jobs, on SQLite and PostgreSQL alike."""

from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.core.jobs import Job, Page
from headrace.store.jobs import Jobs
from headrace.store.results import Results

_JOB = Job(
    id="req_1",
    tenant="acme",
    model="chat",
    path="/v1/chat/completions",
    lane="default",
    state=State.QUEUED,
    attempt=1,
    stream=True,
    created_at_s=100.5,
    expires_at_s=9_000.0,
    deadline_s=700.25,
    topic="headrace.requests.chat.default",
    partition=3,
    offset=1 << 40,
    request=b"\x00any bytes",
)
_RESULT = FinalResult(
    request_id="req_1",
    state=State.COMPLETED,
    http_status=200,
    model="chat",
    content_type="application/json",
    body=b"{}",
    created_at_s=150.0,
    expires_at_s=8_000.0,
    tenant="acme",
    path="/v1/chat/completions",
    attempt=2,
)


async def test_what_goes_in_comes_out_to_its_own_tenant_alone(engine: AsyncEngine) -> None:
    jobs = Jobs(engine)
    await jobs.index([_JOB])
    await jobs.index([])
    assert await jobs.get("acme", "req_1") == _JOB
    assert await jobs.get("other", "req_1") is None
    assert await jobs.get("acme", "req_2") is None


@pytest.mark.parametrize("result_first", [False, True])
async def test_request_and_result_make_one_job_in_either_order(
    engine: AsyncEngine, *, result_first: bool
) -> None:
    jobs, results = Jobs(engine), Results(engine)
    if result_first:
        await results.add_many([_RESULT])
        await jobs.index([_JOB])
    else:
        await jobs.index([_JOB])
        await results.add_many([_RESULT])
    ended = replace(
        _JOB, state=State.COMPLETED, http_status=200, attempt=2, finished_at_s=150.0, expires_at_s=8_000.0
    )
    assert await jobs.get("acme", "req_1") == ended
    # Read once more after a restart: nothing goes back.
    await jobs.index([_JOB])
    assert await jobs.get("acme", "req_1") == ended


async def test_a_retry_moves_its_job(engine: AsyncEngine) -> None:
    jobs = Jobs(engine)
    again = replace(_JOB, attempt=2, offset=7, created_at_s=300.0)
    await jobs.index([_JOB, again])
    await jobs.index([again])
    assert await jobs.get("acme", "req_1") == replace(again, created_at_s=300.0)
    await jobs.index([replace(again, attempt=3, created_at_s=999.0)])
    found = await jobs.get("acme", "req_1")
    assert found is not None
    assert (found.attempt, found.created_at_s) == (3, 300.0)


async def test_pages(engine: AsyncEngine) -> None:
    jobs = Jobs(engine)
    rows = [replace(_JOB, id=f"req_{n:02}", created_at_s=float(n // 2)) for n in range(10)]
    await jobs.index([*rows, replace(_JOB, id="theirs", tenant="other")])
    seen: list[str] = []
    page = Page(limit=4)
    while found := await jobs.page("acme", page):
        seen += [job.id for job in found[:4]]
        if len(found) <= 4:
            break
        page = replace(page, after=found[3].id)
    assert seen == [job.id for job in reversed(rows)]
    oldest = await jobs.page("acme", Page(limit=2, newest_first=False, after="req_03"))
    assert [job.id for job in oldest] == ["req_04", "req_05", "req_06"]
    assert await jobs.page("acme", Page(limit=4, after="theirs")) == []


async def test_filters(engine: AsyncEngine) -> None:
    jobs = Jobs(engine)
    await jobs.index([_JOB, replace(_JOB, id="req_2", model="embed")])
    await Results(engine).add_many([_RESULT])
    done = await jobs.page("acme", Page(limit=9, states=frozenset({State.COMPLETED, State.FAILED})))
    assert [job.id for job in done] == ["req_1"]
    assert [job.id for job in await jobs.page("acme", Page(limit=9, model="embed"))] == ["req_2"]


async def test_forgetting(engine: AsyncEngine) -> None:
    jobs = Jobs(engine)
    await jobs.index([_JOB])
    assert not await jobs.forget("other", "req_1")
    assert await jobs.forget("acme", "req_1")
    assert await jobs.get("acme", "req_1") is None
    assert await jobs.page("acme", Page(limit=9)) == []
    assert await jobs.was_forgotten("req_1")
    assert not await jobs.was_forgotten("req_2")


async def test_forgetting_takes_the_result_along(engine: AsyncEngine) -> None:
    jobs, results = Jobs(engine), Results(engine)
    await jobs.index([_JOB])
    await results.add_many([_RESULT])
    assert await jobs.forget("acme", "req_1")
    assert await results.get("req_1") is None


async def test_purge_removes_what_has_expired_and_only_that(engine: AsyncEngine) -> None:
    jobs = Jobs(engine)
    await jobs.index([replace(_JOB, id=f"req_{n}", expires_at_s=float(n)) for n in range(1, 5)])
    assert await jobs.purge(now_s=2.0) == 2
    assert await jobs.purge(now_s=2.0) == 0
    assert [job.id for job in await jobs.page("acme", Page(limit=9))] == ["req_4", "req_3"]


async def test_a_value_that_the_database_refuses(engine: AsyncEngine) -> None:
    with pytest.raises(InvalidRequest):
        await Jobs(engine).index([_JOB, replace(_JOB, id="req_2", offset=1 << 70)])
    assert await Jobs(engine).get("acme", "req_1") is None


async def test_a_batchs_lines_are_counted_and_are_no_jobs(engine: AsyncEngine) -> None:
    line = replace(_RESULT, request_id="req_batch_1-0", batch_id="batch_1", line=0)
    await Results(engine).add_many([line])
    assert await Jobs(engine).get("acme", "req_batch_1-0") is None
