"""Files and batches in the OpenAPI document."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from headrace.contracts.batches import BatchBody
from headrace.contracts.errors import ERRORS

_Schema = dict[str, Any]

_TEXT: Final[_Schema] = {"type": "string"}
_INTEGER: Final[_Schema] = {"type": "integer"}
_MAYBE_TEXT: Final[_Schema] = {"type": ["string", "null"]}
_MAYBE_TIME: Final[_Schema] = {"type": ["integer", "null"], "description": "Unix seconds."}


def _object(**properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _page(item: str) -> _Schema:
    return _object(
        object={"const": "list"},
        data={"type": "array", "items": _ref(item)},
        first_id=_MAYBE_TEXT,
        last_id=_MAYBE_TEXT,
        has_more={"type": "boolean"},
    )


_FILE: Final = _object(
    id=_TEXT,
    object={"const": "file"},
    bytes=_INTEGER,
    created_at=_INTEGER,
    expires_at=_MAYBE_TIME,
    filename=_TEXT,
    purpose=_TEXT,
    status={"const": "processed"},
    status_details={"type": "null"},
    sha256=_TEXT,
)
_TIMES: Final = (
    *("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at"),
    *("cancelling_at", "cancelled_at"),
)
_STATES: Final = (
    *("validating", "failed", "in_progress", "finalizing", "completed", "expired"),
    *("cancelling", "cancelled"),
)
_FAULT: Final = _object(
    code=_TEXT, message=_TEXT, param=_MAYBE_TEXT, line={"type": ["integer", "null"], "minimum": 1}
)
_BATCH: Final = _object(
    id=_TEXT,
    object={"const": "batch"},
    endpoint=_TEXT,
    model=_MAYBE_TEXT,
    errors={
        "oneOf": [
            {"type": "null"},
            _object(object={"const": "list"}, data={"type": "array", "items": _FAULT}),
        ]
    },
    input_file_id=_TEXT,
    completion_window=_TEXT,
    status={"enum": list(_STATES)},
    output_file_id=_MAYBE_TEXT,
    error_file_id=_MAYBE_TEXT,
    created_at=_INTEGER,
    expires_at=_INTEGER,
    **dict.fromkeys(_TIMES, _MAYBE_TIME),
    request_counts=_object(total=_INTEGER, completed=_INTEGER, failed=_INTEGER),
    usage={"type": "object"},
    metadata={"type": ["object", "null"]},
    retry_of=_MAYBE_TEXT,
)
_UPLOAD: Final[_Schema] = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": _TEXT,
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
    "required": ["file", "purpose"],
}


def _create_schema() -> _Schema:
    schema = BatchBody.model_json_schema()
    after = schema.pop("$defs")["ExpiresAfter"]
    schema["properties"]["output_expires_after"] = {"oneOf": [after, {"type": "null"}]}
    return schema


SCHEMAS: Final[Mapping[str, _Schema]] = {
    "File": _FILE,
    "FilePage": _page("File"),
    "FileDeleted": _object(id=_TEXT, object={"const": "file"}, deleted={"const": True}),
    "FileUpload": _UPLOAD,
    "Batch": _BATCH,
    "BatchPage": _page("Batch"),
    "BatchBody": _create_schema(),
}
PARAMETERS: Final[Mapping[str, _Schema]] = {
    "FileId": {"name": "file_id", "in": "path", "required": True, "schema": _TEXT},
    "BatchId": {"name": "batch_id", "in": "path", "required": True, "schema": _TEXT},
    "After": {
        "name": "after",
        "in": "query",
        "description": "The last id of the page before.",
        "schema": _TEXT,
    },
    "Limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    },
    "Order": {"name": "order", "in": "query", "schema": {"enum": ["asc", "desc"], "default": "desc"}},
}


def _operation(
    names: tuple[str, str], content: Mapping[str, _Schema], codes: Iterable[str]
) -> dict[str, Any]:
    """An operation's id and summary, its answer by media type, and the errors beside those of all."""
    statuses = sorted({ERRORS[code].http_status for code in (*codes, "internal_error", "unavailable")})
    return {
        "operationId": names[0],
        "summary": names[1],
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": {"x-request-id": {"$ref": "#/components/headers/RequestId"}},
                "content": {media_type: {"schema": schema} for media_type, schema in content.items()},
            },
            **{str(status): {"$ref": f"#/components/responses/Error{status}"} for status in statuses},
        },
    }


def _json(names: tuple[str, str], answer: str, *codes: str) -> dict[str, Any]:
    return _operation(names, {"application/json": _ref(answer)}, codes)


def _taking(operation: dict[str, Any], media_type: str, body: str) -> dict[str, Any]:
    content = {media_type: {"schema": _ref(body)}}
    return operation | {"requestBody": {"required": True, "content": content}}


def _asking(operation: dict[str, Any], *more: _Schema) -> dict[str, Any]:
    pages = [{"$ref": f"#/components/parameters/{name}"} for name in ("After", "Limit", "Order")]
    return operation | {"parameters": [*pages, *more]}


_OF_FILE: Final = {"parameters": [{"$ref": "#/components/parameters/FileId"}]}
_OF_BATCH: Final = {"parameters": [{"$ref": "#/components/parameters/BatchId"}]}
_BYTES: Final[_Schema] = {"type": "string", "format": "binary"}
_RESULTS_QUERY: Final = [
    {
        "name": "after",
        "in": "query",
        "description": "A line, from 0. Lines finish in any order: the response header "
        "`headrace-complete-before` says from which line on some are missing; ask again from there.",
        "schema": {"type": "integer", "minimum": 0},
    },
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    },
]

PATHS: Final[Mapping[str, Any]] = {
    "/v1/files": {
        "post": _taking(
            _json(
                ("createFile", "Upload a file"),
                "File",
                *("invalid_request", "body_too_large", "wrong_content_type", "not_set_up"),
            ),
            "multipart/form-data",
            "FileUpload",
        ),
        "get": _asking(
            _json(("listFiles", "Your files, the newest first"), "FilePage", "invalid_request"),
            {"name": "purpose", "in": "query", "schema": _TEXT},
        ),
    },
    "/v1/files/{file_id}": {
        **_OF_FILE,
        "get": _json(("retrieveFile", "One file"), "File", "not_found"),
        "delete": _json(("deleteFile", "Delete a file"), "FileDeleted", "not_found"),
    },
    "/v1/files/{file_id}/content": {
        **_OF_FILE,
        "get": _operation(
            ("downloadFile", "A file's bytes"),
            {"application/jsonl": _BYTES, "application/octet-stream": _BYTES},
            ("not_found", "not_set_up"),
        ),
    },
    "/v1/batches": {
        "post": _taking(
            _json(
                ("createBatch", "Run every line of a file"),
                "Batch",
                *("invalid_request", "malformed_body", "body_too_large"),
            ),
            "application/json",
            "BatchBody",
        ),
        "get": _asking(
            _json(("listBatches", "Your batches, the newest first"), "BatchPage", "invalid_request")
        ),
    },
    "/v1/batches/{batch_id}": {
        **_OF_BATCH,
        "get": _json(("retrieveBatch", "One batch"), "Batch", "not_found"),
    },
    "/v1/batches/{batch_id}/cancel": {
        **_OF_BATCH,
        "post": _json(
            ("cancelBatch", "Cancel; what was done is kept"), "Batch", "invalid_request", "not_found"
        ),
    },
    "/v1/batches/{batch_id}/retry": {
        **_OF_BATCH,
        "post": _json(
            ("retryBatch", "A new batch of the lines without an answer"),
            "Batch",
            *("invalid_request", "not_found"),
        ),
    },
    "/v1/batches/{batch_id}/results": {
        **_OF_BATCH,
        "get": _operation(
            ("listBatchResults", "Results that are there already, in the order of lines"),
            {"application/jsonl": _TEXT},
            ("invalid_request", "not_found", "not_set_up"),
        )
        | {"parameters": _RESULTS_QUERY},
    },
}
