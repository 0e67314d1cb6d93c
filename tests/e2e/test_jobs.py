"""Jobs over HTTP, on a whole stack."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.stack import ECHO, Stack, wait_until

_SLOW = """\
schema: headrace.function/v1
name: slow
engine: {kind: echo, args: {token_ms: 200, slots: 4, fail_on: fail}}
retry: {max_attempts: 1}
"""


@pytest.fixture(scope="module")
def jobs_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with `echo`, `slow` (200 ms a word) and `cold`, which has no workers."""
    folder = tmp_path_factory.mktemp("jobs")
    functions = [ECHO]
    for name, text in (
        ("slow", _SLOW),
        ("cold", _SLOW.replace("name: slow", "name: cold") + "scaling: {min_workers: 0, max_workers: 0}\n"),
    ):
        (folder / name).mkdir()
        (folder / name / "function.yaml").write_text(text)
        functions.append(folder / name)
    stack = Stack(folder, functions=functions)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def client(jobs_stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=jobs_stack.http_url, timeout=60) as client:
        yield client


def chat(text: str = "hello there", model: str = "echo", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def submit(client: httpx.Client, prefer: str = "respond-async", **body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=chat(**body), headers={"prefer": prefer})


def ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = {}

    def is_over() -> bool:
        nonlocal job
        job = client.get(f"/v1/jobs/{job_id}").json()
        return job["status"] not in ("queued", "in_progress")

    wait_until(is_over, "the job to end")
    return job


def test_a_job_from_202_to_its_result(client: httpx.Client) -> None:
    accepted = submit(client, text="one two three")
    assert accepted.status_code == 202
    job = accepted.json()
    assert accepted.headers["location"] == f"/v1/jobs/{job['id']}" == job["urls"]["self"]
    assert accepted.headers["preference-applied"] == "respond-async"
    assert 1 <= int(accepted.headers["retry-after"]) <= 60
    assert (job["object"], job["status"], job["endpoint"]) == (
        "inference.job",
        "queued",
        "/v1/chat/completions",
    )
    done = ended(client, job["id"])
    assert (done["status"], done["http_status"], done["attempts"]) == ("completed", 200, 1)
    assert done["result"]["choices"][0]["message"]["content"] == "one two three"
    assert done["expires_at"] - done["finished_at"] == 86_400
    result = client.get(done["urls"]["result"])
    assert result.status_code == 200
    assert result.json() == done["result"]
    assert result.headers["x-request-id"] == job["id"]


def test_wait_holds_the_caller_and_then_lets_go(client: httpx.Client) -> None:
    soon = submit(client, "wait=20", text="quick")
    assert soon.status_code == 200
    assert soon.json()["choices"][0]["message"]["content"] == "quick"
    kept = ended(client, soon.headers["x-request-id"])
    assert kept["result"] == soon.json(), "who could not read the answer can fetch it"
    late = submit(client, "respond-async, wait=1", text="a b c d e f g h i j k l", model="slow")
    assert late.status_code == 202
    assert ended(client, late.json()["id"])["status"] == "completed"


def test_what_runs_and_what_waits(client: httpx.Client) -> None:
    running = submit(client, text=" ".join("word" for _ in range(40)), model="slow").json()["id"]
    wait_until(
        lambda: client.get(f"/v1/jobs/{running}").json()["status"] == "in_progress",
        "the job to be seen running",
    )
    unready = client.get(f"/v1/jobs/{running}/result")
    assert (unready.status_code, unready.json()["status"]) == (202, "in_progress")
    refused = client.delete(f"/v1/jobs/{running}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_running")
    cancelled = client.post(f"/v1/jobs/{running}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["error"]["code"] == "request_cancelled"
    assert client.post(f"/v1/jobs/{running}/cancel").json()["status"] == "cancelled"

    ids = [submit(client, model="cold").json()["id"] for _ in range(9)]
    places: list[int | None] = []

    def are_listed() -> bool:
        nonlocal places
        queues = [client.get(f"/v1/jobs/{each}").json()["queue"] for each in ids]
        places = [queue and queue["ahead"] for queue in queues]
        return None not in places

    wait_until(are_listed, "all to be in the index")
    # Nine in four partitions, in turn, behind nothing else.
    assert sorted(place for place in places if place is not None) == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    for each in ids:
        client.post(f"/v1/jobs/{each}/cancel")
    assert {ended(client, each)["status"] for each in ids} == {"cancelled"}


def test_lists_in_pages_and_by_filter(client: httpx.Client) -> None:
    ids = [submit(client, text=f"page {n}").json()["id"] for n in range(7)]
    for each in ids:
        ended(client, each)
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3, "status": "completed", "model": "echo"}
    while True:
        page = client.get("/v1/jobs", params=query).json()
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert [each for each in seen if each in ids] == list(reversed(ids))
    assert len(seen) == len(set(seen))
    assert client.get("/v1/jobs", params={"status": "done"}).status_code == 400
    assert client.get("/v1/jobs", params={"limit": 0}).status_code == 400


def test_removed_is_removed(client: httpx.Client) -> None:
    job = ended(client, submit(client).json()["id"])
    assert client.delete(job["urls"]["self"]).json() == {
        "id": job["id"],
        "object": "inference.job",
        "deleted": True,
    }
    gone = client.get(job["urls"]["self"])
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "job_not_found")
    assert job["id"] not in [each["id"] for each in client.get("/v1/jobs").json()["data"]]


@pytest.mark.parametrize("job_id", ["nonsense", "req_" + "0" * 50, "req_0123"])
def test_ids_that_nobody_made(client: httpx.Client, job_id: str) -> None:
    for answer in (client.get(f"/v1/jobs/{job_id}"), client.post(f"/v1/jobs/{job_id}/cancel")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


def test_a_job_that_fails_tells_why(client: httpx.Client) -> None:
    job = ended(client, submit(client, text="do fail", model="slow").json()["id"])
    result = client.get(job["urls"]["result"])
    assert job["status"] == "failed"
    assert result.status_code == job["http_status"] >= 400
    assert job["error"] == result.json()["error"]
    assert result.headers["x-should-retry"] == "false"


def test_a_deadline_of_the_callers(client: httpx.Client) -> None:
    headers = {"prefer": "respond-async", "cancel-after": "1s"}
    job_id = client.post("/v1/chat/completions", json=chat(model="cold"), headers=headers).json()["id"]
    job = ended(client, job_id)
    assert (job["status"], job["error"]["code"]) == ("expired", "request_expired")
    wrong = client.post("/v1/chat/completions", json=chat(), headers={"cancel-after": "soon"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "Cancel-After")


def events(
    client: httpx.Client, job_id: str, last: str | None = None, until: int = 10_000
) -> list[dict[str, str]]:
    """The first `until` events of a job."""
    headers = {} if last is None else {"last-event-id": last}
    found: list[dict[str, str]] = []
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
                continue
            found.append(event)
            event = {}
            if len(found) == until:
                break
    return found


def words(found: list[dict[str, str]]) -> str:
    chunks = [json.loads(each["data"]) for each in found if each["event"] == "chunk"]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def test_a_stream_is_followed_left_and_taken_up_again(client: httpx.Client) -> None:
    text = " ".join(f"word{n}" for n in range(25))
    accepted = submit(client, text=text, model="slow", stream=True)
    assert accepted.status_code == 202
    job_id = accepted.json()["id"]
    first = events(client, job_id, until=8)
    assert first[0]["event"] == "status"
    last = [each for each in first if each["event"] == "chunk"][-1]["id"]
    rest = events(client, job_id, last)
    assert words(first) + words(rest) == text
    assert "reset" not in [each["event"] for each in first + rest]
    assert rest[-1]["event"] == "completed"
    end = json.loads(rest[-1]["data"])
    assert end["result"]["choices"][0]["message"]["content"] == text
    # And once more, when all is over, from the beginning and from the end.
    assert words(events(client, job_id)) == text
    assert [each["event"] for each in events(client, job_id, rest[-1]["id"])][-1] == "completed"


def test_a_job_that_is_removed_while_somebody_looks(client: httpx.Client) -> None:
    job_id = submit(client, model="cold").json()["id"]
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: status"
        client.post(f"/v1/jobs/{job_id}/cancel")
        ended(client, job_id)
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 200
        told = [line for line in lines if line.startswith("event: ")]
    assert told[-1] in ("event: error", "event: cancelled")


def test_a_job_without_a_stream_has_events_too(client: httpx.Client) -> None:
    job_id = submit(client, text="a b c d e f g h", model="slow").json()["id"]
    found = events(client, job_id)
    assert found[0]["event"] == "status"
    assert found[-1]["event"] == "completed"
    assert json.loads(found[-1]["data"])["result"]["choices"][0]["message"]["content"] == "a b c d e f g h"


def test_one_key_is_one_request(client: httpx.Client) -> None:
    key = {"idempotency-key": f'"{time.time()}"'}
    body = chat("only once")
    first = client.post("/v1/chat/completions", json=body, headers=key)
    again = client.post("/v1/chat/completions", json=body, headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["x-request-id"] == first.headers["x-request-id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = client.post("/v1/chat/completions", json=chat("something else"), headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_one_key_is_one_job_and_one_stream(client: httpx.Client) -> None:
    body = chat("a b c d e f", model="slow")
    headers = {"idempotency-key": f"job-{time.time()}", "prefer": "respond-async"}
    ids = {client.post("/v1/chat/completions", json=body, headers=headers).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    key = {"idempotency-key": f"stream-{time.time()}"}
    texts, names = [], set()
    for _ in range(2):
        with client.stream(
            "POST", "/v1/chat/completions", json=body | {"stream": True}, headers=key
        ) as answer:
            names.add(answer.headers["x-request-id"])
            lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        chunks = [json.loads(line) for line in lines[:-1]]
        texts.append("".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks))
    assert texts == ["a b c d e f"] * 2
    assert len(names) == 1


def test_a_stream_with_a_key_that_fails_before_its_first_chunk_has_a_status_of_its_own(
    client: httpx.Client,
) -> None:
    for _ in range(2):
        key = {"idempotency-key": "a stream that fails"}
        failed = client.post("/v1/chat/completions", json=chat("x", stream=True, n=2), headers=key)
        assert (failed.status_code, failed.json()["error"]["param"]) == (400, "n")
