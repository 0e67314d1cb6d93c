"""Whole answers: what goes to Kafka, what comes back, and what is refused before."""

import asyncio

import orjson
import pytest
from tests.unit.gateway.parts import (
    JSON,
    KEY,
    MESSAGES,
    TOPICS,
    Caller,
    Gateway,
    deployed,
    news,
    reply,
    request_id,
    settle,
    whole,
)

from headrace.contracts import headers as h
from headrace.contracts import ids, requests
from headrace.contracts.errors import BodyTooLarge, EngineFailed, RequestExpired, Unavailable
from headrace.contracts.events import Cancel
from headrace.contracts.requests import CHAT, COMPLETIONS
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.gateway.problems import retry_headers


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_the_answer_comes_back_as_it_is(path):
    gateway = Gateway(deployed())
    gateway.answer_with(whole("olleh", path))
    response = await gateway.ask(path)
    assert response.status_code == 200
    assert response.content == whole("olleh", path)
    assert response.headers["content-type"] == "application/json"
    assert len(gateway.submitter.replies) == 0


async def test_the_record_is_the_exact_body_with_our_headers():
    gateway = Gateway(deployed("org/m"))
    gateway.answer_with(whole())
    body = b' {"model": "org/m",\n "messages": [{"role":"user","content":"hi"}], "unknown": 1.0} '
    response = await gateway.client.post(CHAT, content=body, headers=JSON | {"x-request-id": "mine"})
    (record,) = gateway.kafka.sent
    assert record.value == body
    assert record.topic == "headrace.requests.org--sm.default"
    head = requests.read(h.as_dict(record.headers), default_id="none")
    assert head.id == response.headers["x-request-id"] == request_id(record)
    assert (head.source, head.path) == ("/gateways/g", CHAT)
    assert head.reply == requests.ReplyAddress(TOPICS.replies, 3)
    said = ids.read(KEY, head.id)
    assert said.made_at_ms / 1000 + 600 == pytest.approx(head.expires_at_s, abs=0.01)
    assert (said.model_tag, said.lane) == (ids.model_tag("org--sm"), Lane.DEFAULT)
    assert said.partition == record.partition


@pytest.mark.parametrize(
    ("tier", "lane"),
    [
        (None, "default"),
        ("auto", "default"),
        ("default", "default"),
        ("flex", "flex"),
        ("priority", "priority"),
    ],
)
async def test_the_service_tier_is_the_lane(tier, lane):
    gateway = Gateway(deployed())
    gateway.answer_with(whole())
    await gateway.ask(**({} if tier is None else {"service_tier": tier}))
    assert gateway.kafka.sent[0].topic == f"headrace.requests.echo.{lane}"


async def test_partitions_take_turns_and_ids_are_unique():
    gateway = Gateway(deployed(partitions=3))
    gateway.answer_with(whole())
    await asyncio.gather(*(gateway.ask() for _ in range(9)))
    assert sorted(record.partition for record in gateway.kafka.sent) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len({request_id(record) for record in gateway.kafka.sent}) == 9


async def test_a_new_deployment_is_followed():
    gateway = Gateway(deployed(partitions=1))
    gateway.answer_with(whole())
    await gateway.ask()
    model = deployed(partitions=50)
    gateway.directory.update([news(TOPICS.models, "echo", model.encode())])
    for _ in range(50):
        await gateway.ask()
    assert {record.partition for record in gateway.kafka.sent[1:]} == set(range(50))


async def test_each_caller_gets_the_answer_to_its_own_request():
    gateway = Gateway(deployed())
    callers = [Caller(gateway, user=str(number)) for number in range(20)]
    await settle()
    for record in reversed(gateway.kafka.sent):
        gateway.deliver(reply(record, orjson.dumps({"of": orjson.loads(record.value)["user"]})))
    await asyncio.gather(*(caller.task for caller in callers))
    assert [orjson.loads(caller.body)["of"] for caller in callers] == [str(n) for n in range(20)]


@pytest.mark.parametrize(
    ("content", "status", "code", "param", "word"),
    [
        (b"", 400, "malformed_body", None, "JSON"),
        (b"{", 400, "malformed_body", None, "JSON"),
        (b"\xff\xfe", 400, "malformed_body", None, "JSON"),
        (b"[]", 400, "malformed_body", None, "object"),
        (b"null", 400, "malformed_body", None, "object"),
        (b"[" * 5000, 400, "malformed_body", None, "JSON"),
        (b"{}", 400, "invalid_request", "messages", "required"),
        (b'{"messages":[{"role":"user","content":"x"}]}', 400, "invalid_request", "model", "required"),
        (b'{"model":"echo","messages":[]}', 400, "invalid_request", "messages", "empty list"),
        (b'{"model":"echo","messages":"x"}', 400, "invalid_request", "messages", "list"),
        (b'{"model":1,"messages":[]}', 400, "invalid_request", "model", "string"),
        (b'{"model":"","messages":[{"role":"user"}]}', 404, "model_not_found", "model", "echo"),
        (b'{"model":"nix","messages":[{"role":"user"}]}', 404, "model_not_found", "model", "'nix'"),
    ],
)
async def test_a_wrong_body_is_refused_with_a_sentence(content, status, code, param, word):
    gateway = Gateway(deployed())
    response = await gateway.client.post(CHAT, content=content, headers=JSON)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert word in error["message"]
    assert response.headers["x-request-id"]
    assert "x-should-retry" not in response.headers
    assert gateway.kafka.sent == []


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "perhaps"}, "stream"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [*MESSAGES, {"role": "user", "content": 7}]}, "messages.1.content"),
    ],
)
async def test_a_wrong_parameter_is_named(wrong, param):
    response = await Gateway(deployed()).ask(**wrong)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_an_unknown_model_hears_what_there_is():
    gateway = Gateway(*(deployed(f"m{number}") for number in range(8)))
    message = (await gateway.ask(model="x" * 5000)).json()["error"]["message"]
    assert "m0, m1, m2, m3, m4 and 3 more" in message
    assert len(message) < 300
    assert "headrace deploy" in (await Gateway().ask()).json()["error"]["message"]


async def test_limits_of_the_model():
    limits = {"max_body_bytes": 200, "max_tokens": 10}
    gateway = Gateway(deployed(limits=limits, serves=[CHAT]))
    tokens = await gateway.ask(max_tokens=11)
    assert (tokens.status_code, tokens.json()["error"]["param"]) == (400, "max_tokens")
    path = await gateway.ask(COMPLETIONS)
    assert (path.status_code, path.json()["error"]["code"]) == (404, "path_not_found")
    size = await gateway.ask(user="x" * 200)
    assert (size.status_code, size.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({}, "none"),
        ({"content-type": "application/x-www-form-urlencoded"}, "x-www-form-urlencoded"),
        ({"content-type": "application/jsonlines"}, "application/json"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "content-encoding"),
    ],
)
async def test_a_wrong_content_type_is_refused(headers, word):
    response = await Gateway(deployed()).client.post(CHAT, content=b"{}", headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (415, "wrong_content_type")
    assert word in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/json ;x=y"]
)
async def test_json_may_be_declared_with_parameters(kind):
    gateway = Gateway(deployed())
    gateway.answer_with(whole())
    content = orjson.dumps({"model": "echo", "messages": MESSAGES})
    response = await gateway.client.post(CHAT, content=content, headers={"content-type": kind})
    assert response.status_code == 200


async def test_a_body_over_the_limit_is_refused_unread():
    gateway = Gateway(deployed(), max_body_bytes=100)

    async def never_read():
        pytest.fail("the declared length was enough to know")
        yield b""

    headers = JSON | {"content-length": "101"}
    response = await gateway.client.post(CHAT, content=never_read(), headers=headers)
    assert response.status_code == 413
    assert "100 bytes" in response.json()["error"]["message"]


async def test_a_body_of_unknown_length_is_refused_as_soon_as_it_is_over_the_limit():
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 1
            yield b"x" * 60

    response = await Gateway(deployed(), max_body_bytes=100).client.post(
        CHAT, content=endless(), headers=JSON
    )
    assert response.status_code == 413
    assert read < 5


async def test_a_body_in_pieces_is_put_together():
    gateway = Gateway(deployed())
    gateway.answer_with(whole())

    async def pieces():
        for piece in (b'{"model":"echo",', b'"messages":[{"role":', b'"user"}]}'):
            yield piece

    assert (await gateway.client.post(CHAT, content=pieces(), headers=JSON)).status_code == 200
    assert gateway.kafka.sent[0].value == b'{"model":"echo","messages":[{"role":"user"}]}'


async def test_more_callers_than_may_wait_are_told_to_come_back():
    gateway = Gateway(deployed(), max_waiting=2)
    callers = [Caller(gateway), Caller(gateway)]
    await settle()
    response = await gateway.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (429, "overloaded")
    assert response.headers["retry-after"] == "1"
    for record in gateway.kafka.sent:
        gateway.deliver(reply(record, whole()))
    await asyncio.gather(*(caller.task for caller in callers))
    gateway.answer_with(whole())
    assert (await gateway.ask()).status_code == 200


async def test_when_kafka_takes_nothing_the_caller_may_ask_again():
    gateway = Gateway(deployed())
    gateway.kafka.refusal = Unavailable("Kafka is not reachable; nothing was written")
    response = await gateway.ask()
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "x-should-retry" not in response.headers
    assert len(gateway.submitter.replies) == 0


async def test_a_record_too_large_for_kafka_is_a_body_too_large():
    gateway = Gateway(deployed())
    gateway.kafka.refusal = BodyTooLarge("too large")
    assert (await gateway.ask()).status_code == 413


async def test_without_confirmation_the_caller_may_ask_again_and_the_request_is_cancelled():
    gateway = Gateway(deployed())
    gateway.kafka.confirms = False
    caller = Caller(gateway)
    record = await caller.request()
    gateway.kafka.confirms = True
    gateway.kafka.receipts[0].set_exception(Unavailable("Kafka did not confirm the record"))
    await caller.task
    await settle()
    assert (caller.status, caller.headers["retry-after"]) == (503, "1")
    (cancel,) = gateway.kafka.on(TOPICS.control)
    assert Cancel.decode(cancel.value).request_id == request_id(record)


async def test_a_reply_says_more_than_a_confirmation():
    gateway = Gateway(deployed())
    gateway.kafka.confirms = False
    gateway.answer_with(whole())
    assert (await gateway.ask()).status_code == 200
    gateway.kafka.receipts[0].set_exception(Unavailable("late"))
    await settle()
    assert gateway.kafka.on(TOPICS.control) == []


@pytest.mark.parametrize(
    ("error", "state"),
    [(EngineFailed("it broke"), State.FAILED), (RequestExpired("late"), State.EXPIRED)],
)
async def test_an_error_of_the_worker_is_not_to_be_sent_again(error, state):
    gateway = Gateway(deployed())
    gateway.answer_with(error.body(), state, http_status=error.kind.http_status)
    response = await gateway.ask()
    assert (response.status_code, response.content) == (error.kind.http_status, error.body())
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers


async def test_a_caller_who_leaves_cancels():
    gateway = Gateway(deployed())
    caller = Caller(gateway)
    record = await caller.request()
    caller.leave()
    gateway.submitter.replies.tick(asyncio.get_running_loop().time())
    await caller.task
    await settle()
    (cancel,) = gateway.kafka.on(TOPICS.control)
    assert cancel.key == request_id(record).encode()
    assert Cancel.decode(cancel.value).reason == "the caller left"
    assert (caller.status, len(gateway.submitter.replies)) == (0, 0)


async def test_a_caller_who_leaves_before_the_body_is_whole_leaves_nothing():
    gateway = Gateway(deployed())
    caller = Caller(gateway)
    caller.inbox.get_nowait()
    caller.inbox.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
    caller.leave()
    await caller.task
    assert (caller.status, gateway.kafka.sent) == (0, [])


async def test_a_fault_of_ours_after_the_request_was_queued_is_not_to_be_sent_again(monkeypatch, caplog):
    gateway = Gateway(deployed())
    gateway.answer_with(whole())
    monkeypatch.setattr("headrace.gateway.sending.retry_headers", _fails_once())
    response = await gateway.ask()
    assert (response.status_code, response.headers["x-should-retry"]) == (500, "false")
    assert "fault of ours" in caplog.text


async def test_a_fault_of_ours_before_the_request_was_queued(monkeypatch, caplog):
    gateway = Gateway(deployed())
    monkeypatch.setattr(gateway.submitter, "check", lambda *_: 1 / 0)
    response = await gateway.ask()
    assert (response.status_code, response.headers["retry-after"]) == (500, "1")
    assert "ZeroDivisionError" in caplog.text


def _fails_once():
    calls = []

    def fails(status, *, queued):
        calls.append(status)
        if len(calls) == 1:
            raise ZeroDivisionError
        return retry_headers(status, queued=queued)

    return fails
