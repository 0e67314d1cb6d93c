"""Batches and files, on SQLite and PostgreSQL alike."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.core.batches import Batch, BatchState
from headrace.core.files import FileState, Kept, StoredFile, pending
from headrace.core.lines import request_id
from headrace.core.pages import PageQuery
from headrace.store.batches import Batches
from headrace.store.files import Files
from headrace.store.results import Results

_NOW_S = 1_790_000_000.0
_BATCH = Batch(
    id="batch_1",
    tenant="one",
    path="/v1/chat/completions",
    input_file_id="file-1",
    state=BatchState.VALIDATING,
    window_text="24h",
    created_at_s=_NOW_S,
    expires_at_s=_NOW_S + 86_400,
)


def _file(name: str, *, now_s: float = _NOW_S, tenant: str = "one") -> StoredFile:
    return pending(f"file-{name}", tenant, ("a.jsonl", "batch"), now_s)


def _result(line: int, *, is_good: bool = True, batch_id: str = "batch_1") -> FinalResult:
    return FinalResult(
        request_id=request_id(batch_id, line),
        state=State.COMPLETED if is_good else State.FAILED,
        http_status=200 if is_good else 500,
        model="echo",
        content_type="application/json",
        body=b'{"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}',
        created_at_s=_NOW_S,
        expires_at_s=_NOW_S + 10,
        tenant="one",
        batch_id=batch_id,
        line=line,
    )


async def test_a_file_exists_once_it_is_whole(engine: AsyncEngine) -> None:
    files, file = Files(engine), _file("1")
    await files.add(file)
    assert await files.get(file.id, "one") is None
    assert await files.known(file.id) == file
    assert await files.ready(file.id, Kept(3, "abc"), _NOW_S + 60)
    assert not await files.ready(file.id, Kept(4, "def"), None)
    ready = replace(file, size_bytes=3, sha256="abc", state=FileState.READY, expires_at_s=_NOW_S + 60)
    assert await files.get(file.id, "one") == ready
    assert await files.get(file.id, "two") is None
    assert (await files.used_bytes("one"), await files.used_bytes("two")) == (3, 0)


async def test_pages(engine: AsyncEngine) -> None:
    files = Files(engine)
    for number in range(5):
        # Two of the same second: the id decides.
        await files.add(_file(str(number), now_s=_NOW_S + number // 2))
        await files.ready(f"file-{number}", Kept(1, "x"), None)
    await files.add(_file("other", tenant="two"))
    for ascending in (True, False):
        seen: list[str] = []
        has_more, after = True, None
        while has_more:
            page, has_more = await files.list("one", PageQuery(after, 2, ascending))
            seen += [file.id for file in page]
            after = page[-1].id
        expected = [f"file-{number}" for number in range(5)]
        assert seen == (expected if ascending else expected[::-1])
    assert await files.list("one", PageQuery("file-other")) == ([], False)
    assert await files.list("one", PageQuery(), "vision") == ([], False)


async def test_a_deleted_file_is_kept_while_a_batch_reads_it(engine: AsyncEngine) -> None:
    files, batches = Files(engine), Batches(engine)
    await files.add(_file("1"))
    await files.ready("file-1", Kept(1, "x"), None)
    await batches.add(_BATCH)
    assert not await files.delete("file-1", "two", _NOW_S)
    assert await files.delete("file-1", "one", _NOW_S)
    assert await files.get("file-1", "one") is None
    assert await files.due(_NOW_S, 10) == []
    await batches.claim("d-1", _NOW_S, _NOW_S, 10)
    assert await batches.finish(_BATCH, "d-1", {"state": BatchState.FAILED}, ())
    assert [file.id for file in await files.due(_NOW_S, 10)] == ["file-1"]
    await files.forget("file-1")
    assert await files.known("file-1") is None


async def test_one_batch_has_one_owner(engine: AsyncEngine) -> None:
    batches = Batches(engine)
    for number in range(6):
        await batches.add(replace(_BATCH, id=f"batch_{number}", created_at_s=_NOW_S + number))
    claims = await asyncio.gather(
        *(batches.claim(f"d-{owner}", _NOW_S + 15, _NOW_S, 4) for owner in range(3))
    )
    claimed = [batch_id for found in claims for batch_id in found]
    claimed += await batches.claim("d-3", _NOW_S + 15, _NOW_S, 10)
    assert sorted(claimed) == [f"batch_{number}" for number in range(6)]
    # The lease lapses.
    assert len(await batches.claim("d-4", _NOW_S + 30, _NOW_S + 16, 10)) == 6
    await batches.renew("d-4", _NOW_S + 100)
    assert await batches.claim("d-5", _NOW_S + 120, _NOW_S + 31, 10) == []
    assert await batches.held("batch_0", "d-1") is None
    assert not await batches.change("batch_0", "d-1", {"total": 5})
    assert await batches.change("batch_0", "d-4", {"total": 5}, BatchState.VALIDATING)
    assert not await batches.change("batch_0", "d-4", {"total": 6}, BatchState.IN_PROGRESS)
    held = await batches.held("batch_0", "d-4")
    assert held is not None
    assert held.total == 5
    await batches.release("d-4")
    assert len(await batches.claim("d-5", _NOW_S + 120, _NOW_S + 31, 10)) == 6


async def test_a_batch_ends_once_with_its_files(engine: AsyncEngine) -> None:
    told: list[Batch] = []

    async def ended(_: AsyncConnection, batch: Batch) -> None:
        told.append(batch)

    batches, files = Batches(engine, ended), Files(engine)
    await batches.add(_BATCH)
    await files.add(_file("out"))
    await batches.claim("d-1", _NOW_S + 15, _NOW_S, 1)
    values = {"state": BatchState.COMPLETED, "output_file_id": "file-out", "completed": 2}
    made = replace(_file("out"), size_bytes=9, sha256="abc")
    assert not await batches.finish(_BATCH, "d-2", values, [made])
    assert await files.get("file-out", "one") is None
    assert await batches.finish(_BATCH, "d-1", values, [made])
    assert not await batches.finish(_BATCH, "d-1", values, [made])
    found = await batches.get("batch_1", "one")
    assert found is not None
    assert (found.state, found.completed, told) == (BatchState.COMPLETED, 2, [found])
    assert (await files.get("file-out", "one")) == replace(made, state=FileState.READY)


async def test_a_cancel_counts_while_there_is_something_to_cancel(engine: AsyncEngine) -> None:
    batches = Batches(engine)
    await batches.add(_BATCH)
    assert await batches.cancel("batch_1", "two", _NOW_S) is None
    for now_s in (_NOW_S, _NOW_S + 5):
        found = await batches.cancel("batch_1", "one", now_s)
        assert found is not None
        assert (found.state, found.cancelling_at_s) == (BatchState.CANCELLING, _NOW_S)


async def test_results_count_until_the_batch_is_over_and_stay_as_long(engine: AsyncEngine) -> None:
    batches, results = Batches(engine), Results(engine)
    await batches.add(_BATCH)
    await batches.claim("d-1", _NOW_S + 15, _NOW_S, 1)
    await results.add_many([_result(0), _result(2, is_good=False), _result(1), _result(1)])
    await results.add_many([_result(0)])
    found = await batches.get("batch_1")
    assert found is not None
    counted = (found.completed, found.failed, found.input_tokens, found.output_tokens)
    assert counted == (2, 1, 6, 9)
    assert await results.purge(_NOW_S + 100) == 0
    assert await batches.finish(found, "d-1", {"state": BatchState.COMPLETED}, ())
    await results.add_many([_result(3)])
    late = await batches.get("batch_1")
    assert late is not None
    assert (late.completed, late.failed) == (2, 1)
    assert await results.purge(_NOW_S + 100) == 4


@pytest.mark.parametrize(("first", "gap"), [(0, 2), (2, 2), (3, 5), (9, 9)])
async def test_the_first_gap(engine: AsyncEngine, first: int, gap: int) -> None:
    batches = Batches(engine)
    await Results(engine).add_many([_result(line) for line in (0, 1, 3, 4, 7)])
    assert await batches.first_gap("batch_1", first, first + 50) == gap
    assert [r.line for r in await batches.results("batch_1", 1, 3)] == [1, 3, 4]
