"""The first look at a batch: its input file is read once before any of it is queued."""

import asyncio
import time
from contextlib import aclosing
from typing import Final

import orjson

from headrace.contracts.errors import InvalidRequest, NotFound
from headrace.core import batch_lines as lines
from headrace.core.batches import Batch, BatchState, Fault, errors_json
from headrace.core.files import FileState, StoredFile
from headrace.dispatcher.batch_parts import Parts, split

_STEP: Final = 200
"""Lines that are checked before others have their turn: some milliseconds."""


async def prepare(parts: Parts, owner: str, batch: Batch) -> None:
    """Check the file and begin the batch, or end it with what is wrong.

    Raises:
        Unavailable: database or bucket do not serve now.
    """
    try:
        file = await _input(parts, batch)
        checker = await _checked(parts, batch, file)
    except InvalidRequest as error:
        await fail(parts, owner, batch, [Fault(error.code, error.message, None, error.param)])
        return
    faults = checker.end()
    if faults:
        await fail(parts, owner, batch, faults)
        return
    begun = {
        "state": BatchState.IN_PROGRESS,
        "model": checker.model,
        "total": checker.total,
        "marks": checker.marks,
        "in_progress_at_s": time.time(),
    }
    await parts.batches.change(batch.id, owner, begun, BatchState.VALIDATING)


async def fail(parts: Parts, owner: str, batch: Batch, faults: list[Fault]) -> None:
    """End it without running anything."""
    ended = {
        "state": BatchState.FAILED,
        "errors_json": errors_json(faults),
        "failed_at_s": time.time(),
    }
    await parts.batches.finish(batch, owner, ended, ())


async def input_file(parts: Parts, batch: Batch) -> StoredFile:
    """The batch's input file, whoever has deleted it meanwhile.

    Raises:
        NotFound: it is gone all the same.
    """
    file = await parts.files.known(batch.input_file_id)
    if file is None or file.state is FileState.PENDING:
        raise NotFound("The batch's input file is gone", param="input_file_id")
    return file


async def _input(parts: Parts, batch: Batch) -> StoredFile:
    """The input file; of a batch that runs another's lines again, made now."""
    file = await parts.files.known(batch.input_file_id)
    if batch.retry_of is None or file is None or file.state is not FileState.PENDING:
        return await input_file(parts, batch)
    return await _remainder(parts, batch, file)


async def _checked(parts: Parts, batch: Batch, file: StoredFile) -> lines.Checker:
    checker = lines.Checker(batch.path, parts.find, parts.limits.batches.max_lines)
    async with aclosing(split(parts.objects, file.object_key)) as pieces:
        async for some in pieces:
            for first in range(0, len(some), _STEP):
                for raw in some[first : first + _STEP]:
                    checker.take(raw)
                await asyncio.sleep(0)
            if checker.is_full:
                break
    return checker


async def _remainder(parts: Parts, batch: Batch, file: StoredFile) -> StoredFile:
    """Write the lines of another batch that have no answer, as this one's input."""
    old = None if batch.retry_of is None else await parts.batches.get(batch.retry_of)
    errors = None if old is None or old.error_file_id is None else await parts.files.known(old.error_file_id)
    if old is None or errors is None:
        raise NotFound("The error file of the batch that is to run again is gone", param="retry_of")
    source = await input_file(parts, old)
    wanted: set[int] = set()
    async with aclosing(split(parts.objects, errors.object_key)) as pieces:
        async for some in pieces:
            wanted.update(lines.digest(orjson.loads(raw)["custom_id"]) for raw in some)
    async with (
        parts.objects.writing(file.object_key) as writer,
        aclosing(split(parts.objects, source.object_key)) as pieces,
    ):
        async for some in pieces:
            for raw in some:
                if raw.strip() and lines.digest(lines.read(raw).custom_id) in wanted:
                    await writer.write(raw + b"\n")
    kept = writer.kept
    expires_at_s = time.time() + parts.limits.files.retention_s
    await parts.files.ready(file.id, kept, expires_at_s)
    return await input_file(parts, batch)
