"""`/v1/files`: uploads, kept in the bucket; what is known of them, in SQL."""

import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive

from headrace.contracts.errors import (
    BodyTooLarge,
    InvalidRequest,
    NotFound,
    NotSetUp,
    WrongContentType,
)
from headrace.core.files import (
    FILE_PREFIX,
    MAX_EXPIRY_S,
    MIN_EXPIRY_S,
    PURPOSES,
    FileState,
    FileStore,
    ObjectStore,
    StoredFile,
    pending,
)
from headrace.gateway.callers import Callers
from headrace.gateway.pages import asked, page, shown
from headrace.gateway.problems import new_request_id
from headrace.settings import FilesSettings

_ANCHOR: Final = "expires_after[anchor]"
_SECONDS: Final = "expires_after[seconds]"
_FIELDS: Final = ("file", "purpose", _ANCHOR, _SECONDS)
_FORM_BYTES: Final = 64 * 1024
"""Beside the file: the other fields and what parts them."""
_MAX_NAME_CHARS: Final = 512


class Stores(Protocol):
    """Opened when first asked for."""

    @property
    def files(self) -> FileStore:
        """What is known of files."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with. `objects` None: no bucket was given."""

    callers: Callers
    stores: Stores
    objects: ObjectStore | None
    settings: FilesSettings
    clock: Callable[[], float] = time.time

    def bucket(self) -> ObjectStore:
        """Where files are.

        Raises:
            NotSetUp: nowhere.
        """
        if self.objects is None:
            raise NotSetUp("Files need a bucket: set HEADRACE_S3_ENDPOINT_URL or HEADRACE_S3_BUCKET")
        return self.objects


class _Form(NamedTuple):
    file: UploadFile
    filename: str
    purpose: str
    expires_after_s: int | None


def routes(parts: Parts) -> list[Route]:
    """The routes."""
    endpoints = _Endpoints(parts)
    return [
        Route("/v1/files", endpoints.create, methods=["POST"]),
        Route("/v1/files", endpoints.listed, methods=["GET"]),
        Route("/v1/files/{file_id}", endpoints.one, methods=["GET"]),
        Route("/v1/files/{file_id}", endpoints.remove, methods=["DELETE"]),
        Route("/v1/files/{file_id}/content", endpoints.content, methods=["GET"]),
    ]


class _Endpoints:
    """What each route does."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create(self, request: Request) -> Response:
        caller = self._parts.callers.of(request)
        objects = self._parts.bucket()
        limit_bytes = await self._limit_bytes(caller.tenant)
        data = await _form(request, limit_bytes)
        try:
            form = _read(data)
            if (form.file.size or 0) > limit_bytes:
                raise _too_large(limit_bytes)
            now_s = self._parts.clock()
            file_id = f"{FILE_PREFIX}{uuid.uuid4().hex}"
            file = pending(file_id, caller.tenant, (form.filename, form.purpose), now_s)
            # The row first: what is never finished is removed when it expires.
            await self._parts.stores.files.add(file)
            kept = await objects.keep(file.object_key, form.file.file)
        finally:
            await data.close()
        expires_at_s = now_s + (form.expires_after_s or self._parts.settings.retention_s)
        if not await self._parts.stores.files.ready(file_id, kept, expires_at_s):
            raise NotFound(f"File {file_id} was removed while it was uploaded: that took too long")
        made = replace(file, state=FileState.READY, expires_at_s=expires_at_s, **kept._asdict())
        return shown(made.shown())

    async def _limit_bytes(self, tenant: str) -> int:
        settings = self._parts.settings
        if settings.tenant_max_bytes is None:
            return settings.max_file_bytes
        left_bytes = settings.tenant_max_bytes - await self._parts.stores.files.used_bytes(tenant)
        if left_bytes <= 0:
            raise BodyTooLarge(f"Your files have reached {settings.tenant_max_bytes} bytes: delete some")
        return min(settings.max_file_bytes, left_bytes)

    async def listed(self, request: Request) -> Response:
        tenant = self._parts.callers.of(request).tenant
        purpose = request.query_params.get("purpose")
        files, has_more = await self._parts.stores.files.list(tenant, asked(request), purpose)
        return page([file.shown() for file in files], has_more=has_more)

    async def one(self, request: Request) -> Response:
        return shown((await self._found(request)).shown())

    async def content(self, request: Request) -> Response:
        file = await self._found(request)
        pieces = self._parts.bucket().read(file.object_key)
        headers = {"content-length": str(file.size_bytes), "x-request-id": new_request_id()}
        media_type = "application/jsonl" if file.filename.endswith(".jsonl") else "application/octet-stream"
        # The first piece now, while it can still be said that there is none.
        first = await anext(pieces, b"")
        return StreamingResponse(_joined(first, pieces), 200, headers, media_type)

    async def remove(self, request: Request) -> Response:
        file_id = request.path_params["file_id"]
        if not await self._parts.stores.files.delete(
            file_id, self._parts.callers.of(request).tenant, self._parts.clock()
        ):
            raise _unknown(file_id)
        return shown({"id": file_id, "object": "file", "deleted": True})

    async def _found(self, request: Request) -> StoredFile:
        file_id = request.path_params["file_id"]
        file = await self._parts.stores.files.get(file_id, self._parts.callers.of(request).tenant)
        if file is None:
            raise _unknown(file_id)
        return file


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _unknown(file_id: str) -> NotFound:
    return NotFound(f"There is no file '{file_id[:80]}'", param="file_id")


async def _form(request: Request, limit_bytes: int) -> FormData:
    """The form, its file on disk once it is over a megabyte.

    Raises:
        WrongContentType: it is no form.
        BodyTooLarge: the file is.
        InvalidRequest: the form cannot be read.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise WrongContentType("A file is uploaded as multipart/form-data, with 'file' and 'purpose'")
    limited = Request(request.scope, _limited(request.receive, limit_bytes))
    try:
        return await limited.form(max_files=1, max_fields=len(_FIELDS))
    except HTTPException as error:
        raise InvalidRequest(f"The form cannot be read: {error.detail}", param="file") from None


def _limited(receive: Receive, limit_bytes: int) -> Receive:
    left_bytes = limit_bytes + _FORM_BYTES

    async def limited() -> Message:
        nonlocal left_bytes
        message = await receive()
        left_bytes -= len(message.get("body", b""))
        if left_bytes < 0:
            raise BodyTooLarge(
                f"The file is over {limit_bytes} bytes, the most that may be kept", param="file"
            )
        return message

    return limited


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The file is over {limit_bytes} bytes, the most that may be kept", param="file")


def _read(form: FormData) -> _Form:
    for name in form:
        if name not in _FIELDS:
            raise InvalidRequest(
                f"There is no field '{name[:80]}'; there are {', '.join(_FIELDS)}", param=name[:80]
            )
    file, purpose = form.get("file"), form.get("purpose")
    if not isinstance(file, UploadFile):
        raise InvalidRequest("Field 'file' is required, with a file name", param="file")
    if not isinstance(purpose, str):
        raise InvalidRequest(f"Field 'purpose' is required: one of {', '.join(PURPOSES)}", param="purpose")
    if purpose not in PURPOSES:
        raise InvalidRequest(
            f"'purpose' is '{purpose[:80]}'; it must be one of {', '.join(PURPOSES)}", param="purpose"
        )
    if not file.size:
        raise InvalidRequest("The file is empty", param="file")
    filename = (file.filename or "file")[:_MAX_NAME_CHARS].replace("\0", "")
    return _Form(file, filename, purpose, _expiry(form))


def _expiry(form: FormData) -> int | None:
    anchor, seconds = form.get(_ANCHOR), form.get(_SECONDS)
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest(f"'{_ANCHOR}' must be 'created_at'", param=_ANCHOR)
    text = str(seconds)
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    if not MIN_EXPIRY_S <= value <= MAX_EXPIRY_S:
        sentence = f"'{_SECONDS}' must be a whole number from {MIN_EXPIRY_S} to {MAX_EXPIRY_S}"
        raise InvalidRequest(sentence, param=_SECONDS)
    return value
