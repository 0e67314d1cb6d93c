"""The end of a batch: its output and error files, every line of the input in one of the two."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from headrace.contracts.errors import InternalError
from headrace.core import batch_lines as lines
from headrace.core.archive import FinalResult
from headrace.core.batches import Batch, BatchState, final_state
from headrace.core.files import BATCH_OUTPUT, FILE_PREFIX, StoredFile, Writer, pending
from headrace.dispatcher.batch_input import input_file
from headrace.dispatcher.batch_parts import Parts, split

_PAGE: Final = 50
"""Results that are in memory at once; a large one has a megabyte."""
_AT: Final[Mapping[BatchState, str]] = {
    BatchState.COMPLETED: "completed_at_s",
    BatchState.EXPIRED: "expired_at_s",
    BatchState.CANCELLED: "cancelled_at_s",
}


@dataclass(slots=True)
class _Output:
    """One of the two files; it begins with its first line, so that none is empty."""

    suffix: str
    file: StoredFile | None = None
    writer: Writer | None = None
    lines: int = 0


class _Walk:
    """Writes the files of one batch."""

    def __init__(self, parts: Parts, batch: Batch, stack: AsyncExitStack) -> None:
        self._parts = parts
        self._batch = batch
        self._stack = stack
        self.good, self.bad = _Output("output"), _Output("errors")
        self.expired = 0

    async def put(self, written: lines.Written) -> None:
        """The next line."""
        output = self.good if written.is_good else self.bad
        if output.writer is None:
            output.file = _file(self._batch, output.suffix)
            # Known before it is written: what the dead leave is removed when the row expires.
            await self._parts.files.add(output.file)
            opened = self._parts.objects.writing(output.file.object_key)
            output.writer = await self._stack.enter_async_context(opened)
        await output.writer.write(written.value)
        output.lines += 1
        self.expired += written.is_expired

    def files(self, expires_at_s: float) -> list[StoredFile]:
        """What was written, once it is whole."""
        return [
            replace(each.file, expires_at_s=expires_at_s, **each.writer.kept._asdict())
            for each in (self.good, self.bad)
            if each.file is not None and each.writer is not None
        ]


async def finalize(parts: Parts, owner: str, batch: Batch) -> None:
    """Write the files and end the batch.

    Raises:
        Unavailable: database or bucket do not serve; the files are written anew.
        NotFound: the input file is gone.
    """
    if batch.state is BatchState.IN_PROGRESS:
        began = {"state": BatchState.FINALIZING, "finalizing_at_s": time.time()}
        if not await parts.batches.change(batch.id, owner, began, BatchState.IN_PROGRESS):
            return
        batch = replace(batch, state=BatchState.FINALIZING)
    async with AsyncExitStack() as stack:
        walk = _Walk(parts, batch, stack)
        if batch.total:
            await _write(parts, batch, walk)
    now_s = time.time()
    kept_s = batch.output_expires_after_s or parts.limits.files.retention_s
    state = final_state(batch, expired_lines=walk.expired)
    ended: dict[str, Any] = {
        "state": state,
        _AT[state]: now_s,
        "completed": walk.good.lines,
        "failed": walk.bad.lines,
        "output_file_id": None if walk.good.file is None else walk.good.file.id,
        "error_file_id": None if walk.bad.file is None else walk.bad.file.id,
    }
    await parts.batches.finish(batch, owner, ended, walk.files(now_s + kept_s))


async def _write(parts: Parts, batch: Batch, walk: _Walk) -> None:
    file = await input_file(parts, batch)
    is_cancelled = batch.state is BatchState.CANCELLING
    line = 0
    async with (
        aclosing(_results(parts, batch.id)) as results,
        aclosing(split(parts.objects, file.object_key)) as pieces,
    ):
        result = await anext(results, None)
        async for some in pieces:
            for raw in some:
                if not raw.strip():
                    continue
                name = lines.line_name(batch.id, line, lines.read(raw).custom_id)
                if result is not None and result.line == line:
                    await walk.put(await _answered(parts, name, result))
                    result = await anext(results, None)
                else:
                    await walk.put(lines.unanswered(name, is_cancelled=is_cancelled))
                line += 1


async def _answered(parts: Parts, name: tuple[str, str], result: FinalResult) -> lines.Written:
    try:
        return lines.answered(name, result, await parts.body(result))
    except InternalError as error:
        return lines.lost(name, error.message)


async def _results(parts: Parts, batch_id: str) -> AsyncGenerator[FinalResult, None]:
    first = 0
    while some := await parts.batches.results(batch_id, first, _PAGE):
        for result in some:
            yield result
        first = (some[-1].line or 0) + 1


def _file(batch: Batch, suffix: str) -> StoredFile:
    name = f"{batch.id}_{suffix}.jsonl"
    return pending(f"{FILE_PREFIX}{uuid.uuid4().hex}", batch.tenant, (name, BATCH_OUTPUT), time.time())
