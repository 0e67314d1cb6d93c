"""`/v1/batches`: created and told of here; run by the dispatcher."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.contracts import batches as contracts
from headrace.contracts.batches import ENDPOINTS, BatchBody
from headrace.contracts.errors import BodyTooLarge, InvalidRequest, NotFound, NotSetUp
from headrace.core import batch_lines as lines
from headrace.core.archive import FinalResult
from headrace.core.batches import UNFINISHED, Batch, BatchState, window_s
from headrace.core.files import BATCH, FILE_PREFIX, FileStore, ObjectStore, StoredFile, pending
from headrace.core.lines import BATCH_PREFIX
from headrace.core.pages import PageQuery
from headrace.gateway.callers import Callers
from headrace.gateway.pages import asked, number, page, shown
from headrace.gateway.problems import new_request_id
from headrace.gateway.tenants import Account

_MAX_BODY_BYTES: Final = 64 * 1024
_MAX_RESULTS: Final = 1000
_MAX_LINE: Final = 999_999_999
_PAGE_BYTES: Final = 32 << 20
"""A page of results ends when it has grown so large, whatever its limit."""
_STEP: Final = 50
"""Results that are in memory at once."""


class BatchStore(Protocol):
    """What a gateway asks of batches. Every call may raise `Unavailable`."""

    async def add(self, batch: Batch, file: StoredFile | None = None) -> None:
        """A new batch; with the file that is to be made for it, if it has none yet."""
        ...

    async def get(self, batch_id: str, tenant: str | None = None) -> Batch | None:
        """A batch of the tenant's."""
        ...

    async def list(self, tenant: str, query: PageQuery) -> tuple[Sequence[Batch], bool]:
        """The tenant's batches, and whether there are more."""
        ...

    async def cancel(self, batch_id: str, tenant: str, now_s: float) -> Batch | None:
        """Cancel it, unless it is over; None when there is none."""
        ...

    async def results(self, batch_id: str, first: int, limit: int) -> Sequence[FinalResult]:
        """Results of its lines from `first` on, in their order."""
        ...

    async def first_gap(self, batch_id: str, first: int, last: int) -> int:
        """The first line from `first` to `last` without a result."""
        ...


class Stores(Protocol):
    """Opened when first asked for."""

    @property
    def files(self) -> FileStore:
        """What is known of files."""
        ...

    @property
    def batches(self) -> BatchStore:
        """Batches."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with.

    body: of an answer, fetched from wherever it is. admit: raises when an account may have no more.
    """

    callers: Callers
    stores: Stores
    objects: ObjectStore | None
    body: Callable[[FinalResult], Awaitable[bytes]]
    admit: Callable[[Account], None] = lambda _: None
    clock: Callable[[], float] = time.time


def routes(parts: Parts) -> list[Route]:
    """The routes."""
    endpoints = _Endpoints(parts)
    return [
        Route("/v1/batches", endpoints.create, methods=["POST"]),
        Route("/v1/batches", endpoints.listed, methods=["GET"]),
        Route("/v1/batches/{batch_id}", endpoints.one, methods=["GET"]),
        Route("/v1/batches/{batch_id}/cancel", endpoints.cancel, methods=["POST"]),
        Route("/v1/batches/{batch_id}/retry", endpoints.retry, methods=["POST"]),
        Route("/v1/batches/{batch_id}/results", endpoints.results, methods=["GET"]),
    ]


class _Endpoints:
    """What each route does."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create(self, request: Request) -> Response:
        caller = self._parts.callers.of(request)
        tenant = caller.tenant
        self._parts.admit(caller.account)
        body = contracts.parse(await _body(request))
        now_s = self._parts.clock()
        batch = _made(body, tenant, now_s)
        file = await self._parts.stores.files.get(body.input_file_id, tenant)
        if file is None:
            raise InvalidRequest(f"There is no file '{body.input_file_id[:80]}'", param="input_file_id")
        if file.purpose != BATCH:
            sentence = f"The file's purpose is '{file.purpose}'; upload it with purpose '{BATCH}'"
            raise InvalidRequest(sentence, param="input_file_id")
        await self._parts.stores.batches.add(batch)
        return shown(batch.shown())

    async def listed(self, request: Request) -> Response:
        batches, has_more = await self._parts.stores.batches.list(
            self._parts.callers.of(request).tenant, asked(request)
        )
        return page([batch.shown() for batch in batches], has_more=has_more)

    async def one(self, request: Request) -> Response:
        return shown((await self._found(request)).shown())

    async def cancel(self, request: Request) -> Response:
        batch_id = request.path_params["batch_id"]
        batch = await self._parts.stores.batches.cancel(
            batch_id, self._parts.callers.of(request).tenant, self._parts.clock()
        )
        if batch is None:
            raise _unknown(batch_id)
        if batch.state not in (BatchState.CANCELLING, BatchState.CANCELLED):
            raise InvalidRequest(f"The batch is {batch.state}: it can no longer be cancelled")
        return shown(batch.shown())

    async def results(self, request: Request) -> Response:
        batch = await self._found(request)
        after = number(request, "after", -1, (0, _MAX_LINE))
        limit = number(request, "limit", 100, (1, _MAX_RESULTS))
        return await _results(self._parts, batch, after + 1, limit)

    async def retry(self, request: Request) -> Response:
        old = await self._found(request)
        if old.state in UNFINISHED:
            raise InvalidRequest(f"The batch is {old.state}: wait for its end, or cancel it")
        if old.state is BatchState.FAILED:
            raise InvalidRequest("No line of the batch could be read: mend its file, and create another")
        if old.error_file_id is None:
            raise InvalidRequest("Every line of the batch has an answer: there is nothing to run again")
        now_s = self._parts.clock()
        file_id = f"{FILE_PREFIX}{uuid.uuid4().hex}"
        file = pending(file_id, old.tenant, (f"retry-of-{old.id}.jsonl", BATCH), now_s)
        body = BatchBody(input_file_id=file_id, endpoint=old.path, completion_window=old.window_text)
        again = _made(body, old.tenant, now_s, old)
        await self._parts.stores.batches.add(again, file)
        return shown(again.shown())

    async def _found(self, request: Request) -> Batch:
        batch_id = request.path_params["batch_id"]
        batch = await self._parts.stores.batches.get(batch_id, self._parts.callers.of(request).tenant)
        if batch is None:
            raise _unknown(batch_id)
        return batch


def _made(body: BatchBody, tenant: str, now_s: float, old: Batch | None = None) -> Batch:
    if body.endpoint not in ENDPOINTS:
        raise InvalidRequest(
            f"'endpoint' is '{body.endpoint[:80]}'; it must be one of {', '.join(ENDPOINTS)}",
            param="endpoint",
        )
    text = body.completion_window or contracts.DEFAULT_WINDOW
    window = window_s(text)
    if window is None:
        raise InvalidRequest(
            f"'completion_window' is '{text}'; it must be hours or days, such as 24h, up to 7d",
            param="completion_window",
        )
    _check_metadata(body.metadata or {})
    after = body.output_expires_after
    kept_s = None if after is None else float(after.seconds)
    metadata = None if body.metadata is None else json.dumps(body.metadata)
    return Batch(
        id=f"{BATCH_PREFIX}{uuid.uuid4().hex}",
        tenant=tenant,
        path=body.endpoint,
        input_file_id=body.input_file_id,
        state=BatchState.VALIDATING,
        window_text=text,
        created_at_s=now_s,
        expires_at_s=now_s + window,
        metadata_json=metadata if old is None else old.metadata_json,
        output_expires_after_s=kept_s if old is None else old.output_expires_after_s,
        retry_of=None if old is None else old.id,
    )


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > contracts.MAX_PAIRS:
        raise InvalidRequest(f"'metadata' has over {contracts.MAX_PAIRS} pairs", param="metadata")
    for name, value in metadata.items():
        if len(name) > contracts.MAX_NAME_CHARS or len(value) > contracts.MAX_VALUE_CHARS:
            raise InvalidRequest(
                f"'metadata' has a name over {contracts.MAX_NAME_CHARS} characters or a value over "
                f"{contracts.MAX_VALUE_CHARS}",
                param="metadata",
            )


async def _body(request: Request) -> bytes:
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > _MAX_BODY_BYTES:
            raise BodyTooLarge(f"The body is over {_MAX_BODY_BYTES} bytes")
    return bytes(found)


async def _results(parts: Parts, batch: Batch, first: int, limit: int) -> Response:
    """Results that are there, in the order of lines, as in the output file.

    Lines finish in any order. `headrace-complete-before` is the first line that has no result yet: who asks
    again from there misses none.
    """
    if parts.objects is None:
        raise NotSetUp("Files need a bucket: set HEADRACE_S3_ENDPOINT_URL or HEADRACE_S3_BUCKET")
    gap = await parts.stores.batches.first_gap(batch.id, first, first + limit - 1)
    found: dict[int, bytes] = {}
    size_bytes, at = 0, first
    while len(found) < limit and size_bytes < _PAGE_BYTES:
        some = await parts.stores.batches.results(batch.id, at, min(_STEP, limit - len(found)))
        if not some:
            break
        names = await _custom_ids(parts, batch, [result.line or 0 for result in some])
        for result in some:
            line = result.line or 0
            name = lines.line_name(batch.id, line, names.get(line, ""))
            found[line] = lines.answered(name, result, await parts.body(result)).value
            size_bytes += len(found[line])
            at = line + 1
    headers = {
        "x-request-id": new_request_id(),
        "headrace-complete-before": str(min(gap, at)),
        "headrace-last-line": "" if not found else str(at - 1),
    }
    return Response(b"".join(found.values()), 200, headers, media_type="application/jsonl")


async def _custom_ids(parts: Parts, batch: Batch, wanted: Sequence[int]) -> dict[int, str]:
    """The names of these lines, in ascending order, from as much of the input file as holds them."""
    file = await parts.stores.files.get(batch.input_file_id, batch.tenant)
    if file is None or parts.objects is None:
        raise NotFound("The batch's input file was removed, and with it the names of its lines")
    first, start_bytes = lines.mark(batch.marks, wanted[0])
    names: dict[int, str] = {}
    missing = set(wanted)
    pieces = parts.objects.read(file.object_key, start_bytes)
    try:
        async for number, raw in _numbered(pieces, first):
            if number in missing:
                missing.discard(number)
                names[number] = _custom_id(raw)
            if not missing:
                break
    finally:
        await pieces.aclose()
    return names


async def _numbered(pieces: AsyncIterator[bytes], number: int) -> AsyncIterator[tuple[int, bytes]]:
    split = lines.Split()
    async for piece in pieces:
        for raw in split.feed(piece):
            if raw.strip():
                yield number, raw
                number += 1
    for raw in split.end():
        yield number, raw


def _custom_id(raw: bytes) -> str:
    line: dict[str, Any] = orjson.loads(raw)
    return str(line["custom_id"])


def _unknown(batch_id: str) -> NotFound:
    return NotFound(f"There is no batch '{batch_id[:80]}'", param="batch_id")
