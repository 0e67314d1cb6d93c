"""Files where there is no bucket, and uploads that are too large."""

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from headrace.contracts.errors import HeadraceError
from headrace.gateway import files
from headrace.gateway.callers import Callers
from headrace.gateway.problems import on_refusal
from headrace.settings import FilesSettings, GatewaySettings


def _client(objects: Any) -> httpx.AsyncClient:
    nothing: Any = None  # refused before it is asked
    settings = FilesSettings(max_file_bytes=100_000)
    parts = files.Parts(Callers(GatewaySettings()), nothing, objects, settings)
    app = Starlette(routes=files.routes(parts), exception_handlers={HeadraceError: on_refusal})
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def _upload(client: httpx.AsyncClient, size_bytes: int) -> httpx.Response:
    form = {"file": ("a.jsonl", b"x" * size_bytes)}
    return await client.post("/v1/files", files=form, data={"purpose": "batch"})


async def test_without_a_bucket_it_is_said_what_to_set() -> None:
    async with _client(None) as client:
        answer = await _upload(client, 3)
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_set_up")
    assert "HEADRACE_S3_BUCKET" in answer.json()["error"]["message"]


# Over by less than what the form itself may need, and by more: the body is then not read to its end.
@pytest.mark.parametrize("size_bytes", [100_001, 10_000_000])
async def test_a_file_over_the_limit_is_refused(size_bytes: int) -> None:
    async with _client(object()) as client:
        answer = await _upload(client, size_bytes)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert answer.json()["error"]["param"] == "file"


async def test_a_file_is_uploaded_as_a_form() -> None:
    async with _client(object()) as client:
        answer = await client.post("/v1/files", json={"purpose": "batch"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "wrong_content_type")
