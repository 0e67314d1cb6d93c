"""Files and batches in a running stack, over HTTP."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.e2e.batch_client import Client, chat_line, jsonl, wait_for_progress
from tests.stack import Stack

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack) as client:
        yield client


def test_every_line_is_answered_under_its_own_name(client: Client) -> None:
    batch = client.run([chat_line(number) for number in range(300)], metadata={"run": "one"})
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 300, "completed": 300, "failed": 0}
    assert batch["error_file_id"] is None
    assert batch["metadata"] == {"run": "one"}
    assert batch["model"] == "echo"
    assert batch["usage"]["output_tokens"] > 0
    told = {
        line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"]
        for line in client.lines(batch["output_file_id"])
    }
    assert told == {f"line-{number}": f"word {number}" for number in range(300)}
    file = client.http.get(f"/v1/files/{batch['output_file_id']}").json()
    assert (file["purpose"], file["filename"]) == ("batch_output", f"{batch['id']}_output.jsonl")


def test_partial_results_come_in_the_order_of_lines(client: Client) -> None:
    batch = client.run([chat_line(number) for number in range(120)])
    after, seen = None, []
    while True:
        params = {"limit": 50} | ({} if after is None else {"after": after})
        answer = client.http.get(f"/v1/batches/{batch['id']}/results", params=params)
        assert answer.status_code == 200, answer.text
        page = [line["custom_id"] for line in map(_json, answer.text.splitlines())]
        if not page:
            break
        seen += page
        after = int(answer.headers["headrace-complete-before"]) - 1
    assert seen == [f"line-{number}" for number in range(120)]


def test_what_is_wrong_with_a_file_is_told_by_line(client: Client) -> None:
    lines = [
        jsonl([chat_line(1)]),
        b"{not json\n",
        jsonl([chat_line(1)]),
        jsonl([chat_line(4) | {"method": "GET"}]),
        jsonl([chat_line(5) | {"url": "/v1/embeddings"}]),
        jsonl([chat_line(6, model="another")]),
        jsonl([chat_line(7, messages=5)]),
    ]
    batch = client.wait(client.create(client.upload(b"".join(lines))["id"])["id"])
    assert batch["status"] == "failed"
    assert batch["request_counts"]["total"] == 0
    assert [(error["line"], error["code"]) for error in batch["errors"]["data"]] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "invalid_method"),
        (5, "invalid_url"),
        (6, "mismatched_model"),
        (7, "invalid_request"),
    ]


def test_a_cancelled_batch_keeps_what_was_done_and_the_rest_runs_again(client: Client, slow: str) -> None:
    lines = [chat_line(number, model=slow) for number in range(400)]
    batch = client.create(client.upload(jsonl(lines))["id"])
    wait_for_progress(client, batch["id"], 1)
    answer = client.http.post(f"/v1/batches/{batch['id']}/cancel")
    assert answer.json()["status"] == "cancelling"
    batch = client.wait(batch["id"])
    assert batch["status"] == "cancelled"
    done, rest = client.lines(batch["output_file_id"]), client.lines(batch["error_file_id"])
    assert done
    assert rest
    assert sorted(line["custom_id"] for line in done + rest) == sorted(line["custom_id"] for line in lines)
    assert {line["error"]["code"] for line in rest} == {"batch_cancelled"}

    again = client.http.post(f"/v1/batches/{batch['id']}/retry").json()
    assert again["retry_of"] == batch["id"]
    again = client.wait(again["id"])
    assert again["status"] == "completed"
    names = {line["custom_id"] for line in client.lines(again["output_file_id"])}
    assert names == {line["custom_id"] for line in rest}


def _json(line: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.Response(200, text=line).json()
    return found


@pytest.fixture(scope="module")
def slow(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that takes 50 ms for each of two words, four at once."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "function.yaml").write_text(
        "schema: headrace.function/v1\nname: slow\nengine: {kind: echo, args: {slots: 4, token_ms: 50}}\n"
    )
    stack.deploy(folder)
    return "slow"
