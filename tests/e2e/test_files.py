"""`/v1/files` in a running stack."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.batch_client import Client
from tests.stack import Stack

from headrace.cli.target import settings_for
from headrace.dispatcher.file_removal import FileRemoval
from headrace.registry.objects import Objects
from headrace.registry.s3 import Bucket
from headrace.store.database import open_engine
from headrace.store.files import Files

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack) as client:
        yield client


@pytest.mark.parametrize("size_bytes", [3, 20_000_001])
def test_what_goes_in_comes_out(client: Client, size_bytes: int) -> None:
    content = hashlib.shake_256(b"file").digest(size_bytes)
    file = client.upload(content, purpose="user_data")
    assert (file["bytes"], file["sha256"]) == (size_bytes, hashlib.sha256(content).hexdigest())
    assert file["expires_at"] - file["created_at"] == 2_592_000
    answer = client.http.get(f"/v1/files/{file['id']}/content")
    assert answer.content == content
    assert answer.headers["x-request-id"]
    assert client.http.get(f"/v1/files/{file['id']}").json() == file


def test_a_deleted_file_is_gone(client: Client) -> None:
    file = client.upload(b"x")
    answer = client.http.delete(f"/v1/files/{file['id']}")
    assert answer.json() == {"id": file["id"], "object": "file", "deleted": True}
    for path in ("", "/content"):
        gone = client.http.get(f"/v1/files/{file['id']}{path}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
    assert client.http.delete(f"/v1/files/{file['id']}").status_code == 404


def test_files_are_listed_by_purpose_and_page(client: Client) -> None:
    made = [client.upload(b"x", purpose="vision")["id"] for _ in range(5)]
    seen, after = [], None
    while True:
        params = {"purpose": "vision", "limit": 2} | ({} if after is None else {"after": after})
        page = client.http.get("/v1/files", params=params).json()
        seen += [file["id"] for file in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert [each for each in seen if each in made] == made[::-1]


_FILE = ("a.jsonl", b"x")


@pytest.mark.parametrize(
    ("fields", "file", "param"),
    [
        ({"purpose": "batch", "more": "1"}, _FILE, "more"),
        ({"purpose": "batch"}, None, "file"),
        ({"purpose": "batch_output"}, _FILE, "purpose"),
        ({}, _FILE, "purpose"),
        ({"purpose": "batch"}, ("a.jsonl", b""), "file"),
        (
            {"purpose": "batch", "expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
            _FILE,
            "expires_after[anchor]",
        ),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "1"},
            _FILE,
            "expires_after[seconds]",
        ),
    ],
)
def test_what_is_wrong_with_a_form_is_told(
    client: Client, fields: dict[str, str], file: Any, param: str
) -> None:
    if file is None:
        answer = client.http.post("/v1/files", files={"purpose": (None, "batch")})
    else:
        answer = client.http.post("/v1/files", files={"file": file}, data=fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


async def test_what_was_deleted_leaves_the_bucket(client: Client, stack: Stack) -> None:
    gone, kept = client.upload(b"gone", purpose="user_data"), client.upload(b"kept", purpose="user_data")
    client.http.delete(f"/v1/files/{gone['id']}")
    settings = settings_for(stack.data_dir)
    engine, objects = open_engine(settings.database), Objects(settings.s3)
    try:
        files = Files(engine)
        removal = FileRemoval(files, objects)
        while await removal.once():
            pass
        assert await files.known(gone["id"]) is None
        bucket = Bucket(settings.s3)
        assert not await bucket.exists(f"files/{gone['id']}")
        assert await bucket.exists(f"files/{kept['id']}")
    finally:
        objects.close()
        await engine.dispose()
