"""What accounts use in a day, on SQLite and PostgreSQL alike."""

import asyncio
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.core.jobs import Job
from headrace.core.quotas import DAY_S, Spent
from headrace.settings import DatabaseSettings
from headrace.store.database import open_engine
from headrace.store.jobs import Jobs
from headrace.store.results import Results
from headrace.store.usage import Usage

DAY = 20_000
NOW_S = DAY * DAY_S + 60.0
JOB = FinalResult(
    request_id="req_1",
    state=State.COMPLETED,
    http_status=200,
    model="echo",
    content_type="application/json",
    body=b'{"usage":{"prompt_tokens":7,"completion_tokens":5}}',
    created_at_s=NOW_S,
    expires_at_s=NOW_S + 60,
    tenant="acme",
)


def job(name: str, tenant: str) -> Job:
    return Job(
        id=name,
        tenant=tenant,
        model="echo",
        path="/v1/chat/completions",
        lane="default",
        state=State.QUEUED,
        attempt=1,
        stream=False,
        created_at_s=NOW_S,
        expires_at_s=NOW_S + 60,
    )


async def test_gateways_add_up(engine: AsyncEngine, settings: DatabaseSettings) -> None:
    other = open_engine(settings)
    more = {"tenant/a": Spent(1, 10), "tenant/b": Spent(2, 0), "key_1": Spent()}
    await asyncio.gather(*(Usage(each).add(DAY, more) for each in (engine, other) * 5))
    await other.dispose()
    usage = Usage(engine)
    assert await usage.of(DAY, ["key_1", "tenant/a", "tenant/c"]) == {
        "key_1": Spent(),
        "tenant/a": Spent(10, 100),
    }
    assert await usage.of(DAY + 1, ["tenant/a"]) == {}
    await usage.add(DAY, {})


async def test_the_archive_counts_those_whom_a_gateway_has_begun_and_each_result_once(
    engine: AsyncEngine,
) -> None:
    usage, results = Usage(engine), Results(engine)
    await results.add_many([JOB])
    assert await usage.of(DAY, ["tenant/acme"]) == {}
    await usage.add(DAY, {"tenant/acme": Spent(1, 0)})
    line = replace(JOB, request_id="req_2", batch_id="batch_1", line=0)
    other = replace(JOB, request_id="req_3", tenant="other")
    for _ in range(2):
        await results.add_many([JOB, line, other, replace(JOB, request_id="req_4", body=b"no usage")])
    assert await usage.of(DAY, ["tenant/acme", "tenant/other"]) == {"tenant/acme": Spent(2, 12)}


async def test_old_days_are_removed(engine: AsyncEngine) -> None:
    usage = Usage(engine)
    for day in (DAY - 401, DAY - 400, DAY):
        await usage.add(day, {"tenant/a": Spent(1, 1)})
    assert await usage.purge(NOW_S) == 1
    assert [len(await usage.of(day, ["tenant/a"])) for day in (DAY - 401, DAY - 400, DAY)] == [0, 1, 1]


async def test_jobs_that_have_not_ended_are_counted_by_tenant(engine: AsyncEngine) -> None:
    jobs = Jobs(engine)
    await jobs.index([job("req_1", "a"), job("req_2", "a"), job("req_3", "b")])
    await Results(engine).add_many([replace(JOB, request_id="req_2", tenant="a")])
    assert await jobs.unfinished() == {"a": 1, "b": 1}
    await jobs.forget("b", "req_3")
    assert await jobs.unfinished() == {"a": 1}
