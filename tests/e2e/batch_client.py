"""What the tests of batches ask over HTTP."""

import json
import time
from collections.abc import Sequence
from typing import Any

import httpx
from tests.stack import Stack, wait_until

FINAL = ("completed", "failed", "expired", "cancelled")


def chat_line(number: int, text: str | None = None, **body: Any) -> dict[str, Any]:
    """A line of an input file."""
    messages = [{"role": "user", "content": text or f"word {number}"}]
    return {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "echo", "messages": messages} | body,
    }


def jsonl(lines: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class Client:
    """One caller's view."""

    def __init__(self, stack: Stack, **headers: str) -> None:
        self.http = httpx.Client(base_url=stack.http_url, timeout=60, headers=headers)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.http.close()

    def upload(self, content: bytes, **fields: str) -> dict[str, Any]:
        files = {"file": ("input.jsonl", content)}
        answer = self.http.post("/v1/files", files=files, data={"purpose": "batch"} | fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def create(self, file_id: str, **more: Any) -> dict[str, Any]:
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        answer = self.http.post("/v1/batches", json=body | more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def run(self, lines: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return self.wait(self.create(self.upload(jsonl(lines))["id"], **more)["id"])

    def batch(self, batch_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/v1/batches/{batch_id}").json()
        return found

    def wait(self, batch_id: str, *states: str, timeout_s: float = 120) -> dict[str, Any]:
        wanted = states or FINAL
        wait_until(
            lambda: self.batch(batch_id).get("status") in wanted,
            f"batch {batch_id} to be {' or '.join(wanted)}",
            timeout_s,
        )
        return self.batch(batch_id)

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        answer = self.http.get(f"/v1/files/{file_id}/content")
        assert answer.status_code == 200, answer.text
        assert len(answer.content) == int(answer.headers["content-length"])
        return [json.loads(line) for line in answer.text.splitlines()]

    def all_lines(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        return self.lines(batch["output_file_id"]) + self.lines(batch["error_file_id"])


def wait_for_progress(client: Client, batch_id: str, at_least: int) -> None:
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        counts = client.batch(batch_id)["request_counts"]
        if counts["completed"] + counts["failed"] >= at_least:
            return
        time.sleep(0.05)
    raise AssertionError(f"batch {batch_id} did not come as far as {at_least} lines")
