"""API keys, limits and a Kafka that hangs, on whole stacks."""

import json
import os
import signal
import subprocess
import time

import httpx
import pytest
from tests.e2e.clients.environments import environment
from tests.stack import Second, Stack, wait_until

BODY = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
SETTINGS = {"HEADRACE_GATEWAY_KEYS_REFRESH_S": "0.5"}


@pytest.fixture
def own_stack(tmp_path):
    stack = Stack(tmp_path, settings=SETTINGS)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def make(stack, *options):
    done = stack.run("keys", "create", "--name", "test", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask(url, text=None):
    headers = {} if text is None else {"authorization": f"Bearer {text}"}
    return httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=headers, timeout=60)


def code(response):
    return response.status_code, response.json().get("error", {}).get("code")


def openais_words(url, *keys):
    """What an unmodified openai-python raises for each of these keys."""
    program = """
import sys, openai
for key in sys.argv[2:]:
    client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=key, max_retries=0)
    try:
        client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello"}])
    except openai.APIStatusError as error:
        print(type(error).__name__)
"""
    given = [key or "hr_unknown" for key in keys]
    command = [str(environment("openai-3")), "-c", program, url, *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


@pytest.mark.timeout(240)
def test_keys_on_a_stack(own_stack):
    stack, url = own_stack, own_stack.http_url
    assert ask(url).status_code == 200
    assert ask(url, "unused").status_code == 200

    first = make(stack, "--tenant", "a", "--rate-per-s", "0.01", "--burst", "2")
    wait_until(lambda: ask(url).status_code == 401, "the first key to close the stack")
    assert code(ask(url, "unused")) == (401, "invalid_api_key")
    assert [ask(url, first["key"]).status_code for _ in range(3)] == [200, 200, 429]

    # New ones work at once, and neither sees the rate of another.
    other = make(stack, "--tenant", "b")
    assert ask(url, other["key"]).status_code == 200
    jobs = make(stack, "--tenant", "b", "--scopes", "jobs")
    assert code(ask(url, jobs["key"])) == (403, "insufficient_scope")
    headers = {"authorization": f"Bearer {jobs['key']}"}
    assert httpx.get(f"{url}/v1/jobs", headers=headers).status_code == 200

    short = make(stack, "--tenant", "b", "--expires-in", "4s")
    assert ask(url, short["key"]).status_code == 200
    wait_until(lambda: ask(url, short["key"]).status_code == 401, "the key to expire")

    gateway = Second(stack)
    try:
        # A day's quota holds at all gateways together, within what they take in between two looks.
        daily = make(stack, "--tenant", "b", "--requests-per-day", "4")
        assert [ask(url, daily["key"]).status_code for _ in range(4)] == [200] * 4
        wait_until(
            lambda: code(ask(gateway.url, daily["key"])) == (429, "insufficient_quota"),
            "the other gateway to hear of it",
        )
        refused = ask(url, daily["key"])
        assert code(refused) == (429, "insufficient_quota")
        assert openais_words(url, None, jobs["key"], daily["key"]) == [
            "AuthenticationError",
            "PermissionDeniedError",
            "RateLimitError",
        ]

        assert ask(gateway.url, other["key"]).status_code == 200
        assert stack.run("keys", "revoke", other["id"]).returncode == 0
        for each in (url, gateway.url):
            wait_until(lambda at=each: ask(at, other["key"]).status_code == 401, "the revocation to hold")
    finally:
        gateway.stop()
    listed = json.loads(stack.run("keys", "list", "--json").stdout)
    assert [row["state"] for row in listed] == ["active", "revoked", "active", "expired", "active"]
    assert first["key"] not in json.dumps(listed)
    assert stack.run("keys", "revoke", "key_none").returncode == 1


@pytest.mark.timeout(240)
def test_a_kafka_that_hangs_is_refused_at_once(own_stack):
    url, kafka = own_stack.http_url, own_stack.pids["kafka"]
    assert ask(url).status_code == 200
    os.kill(kafka, signal.SIGSTOP)
    try:
        wait_until(lambda: _is_hung(url), "the gateway to know that Kafka hangs", 25)
        begun_s = time.monotonic()
        refused = ask(url)
        assert (code(refused), refused.headers["retry-after"]) == ((503, "unavailable"), "1")
        assert "nothing was queued" in refused.json()["error"]["message"]
        print(f"refused within {time.monotonic() - begun_s:.3f} s")
    finally:
        os.kill(kafka, signal.SIGCONT)
    wait_until(lambda: ask(url).status_code == 200, "the gateway to go on")


def _is_hung(url):
    """Whether the gateway refuses without waiting for Kafka."""
    try:
        response = httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=1)
    except httpx.TimeoutException:
        return False
    return response.status_code == 503 and "confirmed nothing" in response.text
