"""Files and batches by an unmodified openai-python. Used as `openai_checks.py`: BASE_URL MODEL."""

import io
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import openai
from openai import OpenAI

BASE_URL, MODEL = sys.argv[1:3]
WAIT_S = 60.0


def client() -> OpenAI:
    """A client; the key is not looked at."""
    return OpenAI(base_url=f"{BASE_URL}/v1", api_key="none", timeout=30.0)


def content(lines: int) -> bytes:
    """An input file."""
    made = []
    for number in range(lines):
        body = {"model": MODEL, "messages": [{"role": "user", "content": f"word {number}"}]}
        line = {"custom_id": f"a{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        made.append(json.dumps(line))
    return "\n".join(made).encode()


def upload(data: bytes, purpose: Any = "batch") -> Any:
    """Upload a file."""
    return client().files.create(file=("input.jsonl", io.BytesIO(data)), purpose=purpose)


def caught(kind: type[openai.APIStatusError], call: Callable[[], object]) -> Any:
    """The error that the call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


def finished(batch_id: str) -> Any:
    """The batch at its end."""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        batch = client().batches.retrieve(batch_id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        time.sleep(0.2)
    raise AssertionError(f"batch {batch_id} is {batch.status}")


def check_round_trip() -> None:
    file = upload(content(50))
    assert (file.object, file.purpose, file.filename, file.bytes) == (
        *("file", "batch", "input.jsonl"),
        len(content(50)),
    )
    batch = client().batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"of": "a test"},
    )
    assert (batch.object, batch.status) == ("batch", "validating")
    assert batch.output_file_id is None
    batch = finished(batch.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
        50,
        50,
        0,
    )
    assert batch.metadata == {"of": "a test"}
    assert batch.error_file_id is None
    assert batch.output_file_id is not None
    told = {}
    for text in client().files.content(batch.output_file_id).text.splitlines():
        line = json.loads(text)
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        told[line["custom_id"]] = line["response"]["body"]["choices"][0]["message"]["content"]
    assert told == {f"a{number}": f"word {number}" for number in range(50)}
    assert batch.id in [each.id for each in client().batches.list(limit=2)]


def check_files() -> None:
    made = [upload(b"some bytes", "user_data") for _ in range(3)]
    assert made[0].status == "processed"
    assert client().files.retrieve(made[0].id) == made[0]
    assert client().files.content(made[0].id).read() == b"some bytes"
    listed = [file.id for file in client().files.list(purpose="user_data", limit=2)]
    assert [each for each in listed if each in {file.id for file in made}] == [file.id for file in made[::-1]]
    gone = client().files.delete(made[0].id)
    assert gone.deleted
    assert caught(openai.NotFoundError, lambda: client().files.retrieve(made[0].id)).code == "not_found"


def check_a_bad_file() -> None:
    file = upload(b"{\n" + content(1))
    batch = client().batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    batch = finished(batch.id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(error.line, error.code) for error in batch.errors.data] == [(1, "invalid_json_line")]


def check_cancel() -> None:
    file = upload(content(2000))
    batch = client().batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    cancelled = client().batches.cancel(batch.id)
    assert cancelled.status == "cancelling"
    assert finished(batch.id).status == "cancelled"


def check_errors() -> None:
    for create, param in (
        (lambda: upload(b"", "batch"), "file"),
        (lambda: upload(b"x", "nothing"), "purpose"),
        (
            lambda: client().batches.create(
                input_file_id="file-none", endpoint="/v1/chat/completions", completion_window="24h"
            ),
            "input_file_id",
        ),
    ):
        assert caught(openai.BadRequestError, create).param == param


def outcome(check: Callable[[], None]) -> str | None:
    """Null, or the trace of the failure."""
    try:
        check()
    except Exception:  # noqa: BLE001  # told to who asked
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    found = {name: outcome(each) for name, each in list(globals().items()) if name.startswith("check_")}
    print(json.dumps({"version": openai.__version__, "report": found}))
