"""Webhooks on a whole stack: receivers are real servers, and their libraries unmodified."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest
from tests.e2e.clients.environments import environment
from tests.stack import Stack, wait_until

from headrace import unwrap_webhook
from headrace.contracts.errors import InvalidRequest

CHECKS: Final = Path(__file__).parent / "clients" / "webhook_checks.py"
ALL: Final = ["job.completed", "job.failed", "job.cancelled", "job.incomplete", "job.expired"]

pytestmark = pytest.mark.timeout(240)


class Receiver:
    """Keeps what it is told; answers with `status`."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.status = 204
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                body = self.rfile.read(size)
                if len(body) < size:
                    return  # its sender died on the way
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.heard.append({"headers": headers, "body": body.decode(), "status": outer.status})
                self.send_response(outer.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of(self, subject: str) -> list[dict[str, Any]]:
        """Deliveries about a job."""
        return [each for each in self.heard if json.loads(each["body"])["data"]["id"] == subject]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.http_url, timeout=60) as client:
        yield client


@pytest.fixture
def endpoint(client: httpx.Client, receiver: Receiver) -> Iterator[dict[str, Any]]:
    body = {"name": "test", "url": receiver.url, "event_types": ALL}
    made = client.post("/v1/webhook_endpoints", json=body).json()
    yield made
    client.delete(f"/v1/webhook_endpoints/{made['id']}")


def submit(client: httpx.Client, text: str = "hello", **headers: str) -> str:
    body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
    answer = client.post("/v1/chat/completions", json=body, headers={"prefer": "respond-async"} | headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def verified(kind: str, name: str, *told: tuple[str, dict[str, Any]]) -> list[dict[str, str]]:
    """What an unmodified library makes of deliveries, each with its secret."""
    given = [{"secret": secret, "headers": each["headers"], "body": each["body"]} for secret, each in told]
    done = subprocess.run(
        [str(environment(name)), str(CHECKS), kind],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def ours(secret: str, delivery: dict[str, Any]) -> dict[str, Any]:
    """What our own client makes of a delivery."""
    return unwrap_webhook(secret, delivery["headers"], delivery["body"].encode())


@pytest.mark.parametrize(("kind", "name"), [("openai", "openai-3"), ("standardwebhooks", "standardwebhooks")])
def test_unmodified_libraries_take_our_deliveries(
    client: httpx.Client, endpoint: dict[str, Any], receiver: Receiver, kind: str, name: str
) -> None:
    job = submit(client)
    wait_until(lambda: len(receiver.of(job)) == 1, "the delivery")
    (told,) = receiver.of(job)
    home = f"/v1/webhook_endpoints/{endpoint['id']}"
    keep = {"keep_old_secret_active_for_24_hours": True}
    rotated = client.post(f"{home}/rotate_secret", json=keep).json()
    assert rotated["signing_secret"] != endpoint["signing_secret"]
    second = submit(client)
    wait_until(lambda: len(receiver.of(second)) == 1, "the delivery after the rotation")
    (later,) = receiver.of(second)
    old, new = endpoint["signing_secret"], rotated["signing_secret"]
    found = verified(kind, name, (old, told), (old, later), (new, later))
    assert [each["data"]["id"] for each in map(ours, (old, old, new), (told, later, later))] == [
        each["id"] for each in found
    ]
    with pytest.raises(InvalidRequest, match="No signature fits"):
        ours(new, told)
    assert [each["id"] for each in found] == [job, second, second]
    assert found[0]["type"] == "job.completed"
    assert "signing_secret" not in client.get(home).json()
    # The result is there whatever became of its webhook.
    assert client.get(f"/v1/jobs/{job}").json()["status"] == "completed"


def test_a_url_of_one_request_by_header_and_by_metadata(client: httpx.Client, receiver: Receiver) -> None:
    by_header = submit(client, **{"headrace-webhook": receiver.url})
    body = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    waited = client.post(
        "/v1/chat/completions", json=body | {"metadata": {"completion_webhook": receiver.url}}
    )
    assert waited.status_code == 200
    by_metadata = waited.headers["x-request-id"]
    wait_until(lambda: bool(receiver.of(by_header) and receiver.of(by_metadata)), "both")
    secret = client.get("/v1/webhook_secret").json()["signing_secret"]
    told = [(secret, *receiver.of(name)) for name in (by_header, by_metadata)]
    assert [each["id"] for each in verified("standardwebhooks", "standardwebhooks", *told)] == [
        by_header,
        by_metadata,
    ]
    page = client.get("/v1/webhook_deliveries").json()
    assert {by_header, by_metadata} <= {each["subject"] for each in page["data"]}


def test_a_receiver_that_fails_is_tried_again_and_can_be_replayed(
    client: httpx.Client, endpoint: dict[str, Any], receiver: Receiver
) -> None:
    receiver.status = 500
    job = submit(client)
    wait_until(lambda: len(receiver.of(job)) == 1, "the first attempt")
    receiver.status = 204
    wait_until(lambda: len(receiver.of(job)) == 2, "the second attempt, five seconds later")
    first, second = receiver.of(job)
    assert first["headers"]["webhook-id"] == second["headers"]["webhook-id"]
    name = first["headers"]["webhook-id"]
    wait_until(
        lambda: client.get(f"/v1/webhook_deliveries/{name}").json()["status"] == "delivered", "the log"
    )
    log = client.get(f"/v1/webhook_deliveries/{name}").json()
    assert [each["http_status"] for each in log["attempts"]] == [500, 204]
    listed = client.get(f"/v1/webhook_endpoints/{endpoint['id']}/deliveries").json()["data"]
    assert name in [each["id"] for each in listed]
    client.post(f"/v1/webhook_deliveries/{name}/replay")
    wait_until(lambda: len(receiver.of(job)) == 3, "the replay")


def test_gone_means_gone(client: httpx.Client, endpoint: dict[str, Any], receiver: Receiver) -> None:
    receiver.status = 410
    submit(client)
    home = f"/v1/webhook_endpoints/{endpoint['id']}"
    wait_until(lambda: not client.get(home).json()["enabled"], "the endpoint to be switched off")
    receiver.heard.clear()
    receiver.status = 204
    job = submit(client)
    wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "completed", "the job")
    time.sleep(2)
    assert not receiver.heard
    assert client.post(home, json={"name": "again"}).json()["enabled"]
    third = submit(client)
    wait_until(lambda: bool(receiver.of(third)), "an endpoint that was switched on again")


def test_a_dispatcher_that_is_killed_loses_no_delivery(tmp_path: Path, receiver: Receiver) -> None:
    stack = Stack(tmp_path)
    try:
        stack.start()
        with httpx.Client(base_url=stack.http_url, timeout=60) as client:
            body = {"name": "test", "url": receiver.url, "event_types": ALL}
            client.post("/v1/webhook_endpoints", json=body).raise_for_status()
            jobs = [submit(client, f"job {number}") for number in range(40)]
            wait_until(lambda: len(receiver.heard) >= 5, "some deliveries")
            psutil.Process(stack.pids["dispatcher"]).kill()
            wait_until(lambda: all(receiver.of(job) for job in jobs), "every delivery")
    finally:
        stack.stop()
    names = {each["headers"]["webhook-id"] for job in jobs for each in receiver.of(job)}
    assert len(names) == 40, "twice perhaps, but under one id"


def test_endpoints_as_openais_client_manages_them(
    client: httpx.Client, endpoint: dict[str, Any], receiver: Receiver
) -> None:
    home = f"/v1/webhook_endpoints/{endpoint['id']}"
    assert set(ALL) <= set(client.get("/v1/webhook_event_types").json()["data"])
    assert endpoint["id"] in [each["id"] for each in client.get("/v1/webhook_endpoints").json()["data"]]
    changed = client.post(home, json={"event_types": ["job.failed"]}).json()
    assert (changed["event_types"], changed["url"]) == (["job.failed"], receiver.url)
    tested = client.post(f"{home}/test", json={"event_type": "response.completed"}).json()
    assert (tested["success"], tested["status_code"]) == (True, 204)
    assert json.loads(receiver.heard[-1]["body"])["type"] == "response.completed"
    assert client.delete(home).json()["deleted"]
    assert client.get(home).status_code == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"event_types": ["job.done"]}, "event_types"),
        ({"event_types": []}, "event_types"),
        ({"name": ""}, "name"),
        ({"more": 1}, "more"),
    ],
)
def test_endpoints_that_are_refused(client: httpx.Client, change: dict[str, Any], param: str) -> None:
    body = {"name": "test", "url": "http://127.0.0.1:1/", "event_types": ["job.completed"]} | change
    refused = client.post("/v1/webhook_endpoints", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    url = {"headrace-webhook": "http://10.0.0.1/"}
    request = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    asked = client.post("/v1/chat/completions", json=request, headers=url)
    assert (asked.status_code, asked.json()["error"]["param"]) == (400, "Headrace-Webhook")
