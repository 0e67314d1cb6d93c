"""A client that sends again, because its connection broke, finds what it asked for the first time."""

import asyncio
from typing import Any

import orjson
import pytest
from tests.unit.gateway.parts import Caller, Gateway, chunks, deployed, reply, settle, whole

from headrace.contracts.requests import CHAT
from headrace.contracts.states import State
from headrace.contracts.topics import Topics
from headrace.gateway import resends as module
from headrace.gateway.resends import Resends, fingerprint
from headrace.gateway.waiting import Answer, Waiting

BODY = orjson.dumps({"model": "echo", "messages": [{"role": "user", "content": "hello"}]})
STREAM = orjson.dumps(orjson.loads(BODY) | {"stream": True})


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway(deployed())


def send(gateway: Gateway, count: int, body: bytes = BODY) -> Caller:
    return Caller(gateway, body=body, headers=[(b"x-stainless-retry-count", b"%d" % count)])


def runs(gateway: Gateway) -> int:
    return sum(".requests." in record.topic for record in gateway.kafka.sent)


def cancels(gateway: Gateway) -> int:
    return len(gateway.kafka.on(Topics().control))


async def leave(gateway: Gateway, caller: Caller) -> None:
    """The connection breaks, and the gateway looks."""
    caller.leave()
    gateway.submitter.replies.tick(asyncio.get_running_loop().time())
    await settle()


async def test_a_resend_waits_for_the_run_that_there_is(gateway: Gateway) -> None:
    first = send(gateway, 0)
    asked = await first.request()
    await leave(gateway, first)
    second = send(gateway, 1)
    await settle()
    assert (runs(gateway), cancels(gateway)) == (1, 0)
    gateway.deliver(reply(asked, whole()))
    await second.task
    assert (second.status, second.body) == (200, whole())
    assert second.headers["x-request-id"] == first.headers.get("x-request-id", second.headers["x-request-id"])


async def test_an_answer_that_nobody_heard_is_kept_for_a_moment(gateway: Gateway) -> None:
    first = send(gateway, 0)
    gateway.deliver(reply(await first.request(), whole()))
    await first.task
    second = send(gateway, 1)
    await second.task
    assert (runs(gateway), second.body) == (1, whole())


async def test_an_error_is_what_a_resend_is_for(gateway: Gateway) -> None:
    first = send(gateway, 0)
    gateway.deliver(reply(await first.request(), b"{}", State.FAILED, http_status=500))
    await first.task
    send(gateway, 1)
    await settle()
    assert runs(gateway) == 2


async def test_a_resent_stream_begins_at_the_beginning(gateway: Gateway) -> None:
    first = send(gateway, 0, STREAM)
    asked = await first.request()
    said = chunks(["one ", "two "])
    gateway.deliver(reply(asked, said[0], None))
    await settle()
    second = send(gateway, 1, STREAM)
    await settle()
    for number, chunk in enumerate(said[1:], start=1):
        gateway.deliver(reply(asked, chunk, None, sequence=number))
    gateway.deliver(reply(asked, whole("one two "), sequence=len(said)))
    await asyncio.gather(first.task, second.task)
    assert first.body == second.body
    assert second.body.startswith(b"data: " + said[0])
    assert second.body.endswith(b"data: [DONE]\n\n")
    assert runs(gateway) == 1


async def test_equal_requests_of_two_callers_are_two(gateway: Gateway) -> None:
    for _ in range(2):
        send(gateway, 0)
    await settle()
    assert runs(gateway) == 2


async def test_whoever_does_not_come_again_is_given_up(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.01)
    caller = send(gateway, 0)
    await caller.request()
    await leave(gateway, caller)
    await caller.task
    assert cancels(gateway) == 1


async def test_a_client_that_does_not_count_is_given_up_at_once(gateway: Gateway) -> None:
    caller = Caller(gateway)
    await caller.request()
    await leave(gateway, caller)
    await caller.task
    assert cancels(gateway) == 1


async def test_what_is_kept_is_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX", 3)
    now_s = 0.0
    kept = Resends(lambda: now_s)

    def note(number: int, answer: Any) -> bytes:
        waiting = Waiting(f"req_{number}", 60.0, asyncio.get_running_loop())
        told = fingerprint(None, CHAT, b"%d" % number)
        kept.note(told, waiting)
        if answer is not None:
            waiting.end(answer)
        return told

    running = note(0, None)
    names = [note(number, Answer(200, b"")) for number in range(1, 6)]
    await settle()
    found = [name for name in names if kept.find(name) is not None]
    assert found == names[-3:]
    now_s = 31.0
    assert [name for name in names if kept.find(name) is not None] == []
    assert kept.find(running) is not None
