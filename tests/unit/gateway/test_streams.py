"""Streams: server-sent events as OpenAI's clients read them, whatever happens on the way."""

import asyncio

import pytest
from tests.unit.gateway.parts import (
    TOPICS,
    Caller,
    Gateway,
    chunks,
    deployed,
    reply,
    request_id,
    settle,
    whole,
)

from headrace.contracts.errors import EngineFailed, InvalidRequest, Unavailable
from headrace.contracts.events import Cancel
from headrace.contracts.requests import CHAT, COMPLETIONS
from headrace.contracts.states import State

DONE = b"data: [DONE]\n\n"


def frames(values):
    return b"".join(b"data: " + value + b"\n\n" for value in values)


@pytest.fixture
async def gateway():
    return Gateway(deployed(), keepalive_s=15.0)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_chunks_come_as_they_are_and_done_at_the_end(gateway, path):
    caller = Caller(gateway, path=path, stream=True)
    record = await caller.request()
    said = chunks(["a ", "b"], path)
    for sequence, chunk in enumerate(said):
        gateway.deliver(reply(record, chunk, None, sequence=sequence))
        await settle()
        assert caller.body == frames(said[: sequence + 1])  # at once, not at the end
    gateway.deliver(reply(record, whole("a b", path), sequence=len(said)))
    await caller.task
    assert caller.body == frames(said) + DONE
    assert (caller.status, caller.ended) == (200, True)
    assert caller.headers["content-type"] == "text/event-stream"
    assert caller.headers["x-request-id"] == request_id(record)
    assert len(gateway.submitter.replies) == 0


async def test_chunks_that_came_together_go_out_together(gateway):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    said = chunks(["a ", "b ", "c"])
    gateway.deliver(*(reply(record, chunk, None, sequence=n) for n, chunk in enumerate(said)))
    await settle()
    assert caller.parts == [frames(said)]
    caller.leave()
    gateway.submitter.replies.tick(0.0)
    await caller.task


async def test_an_error_before_the_first_chunk_has_a_status_of_its_own(gateway):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    error = InvalidRequest("The prompt is too odd", param="messages")
    gateway.deliver(reply(record, error.body(), State.FAILED, http_status=400))
    await caller.task
    assert (caller.status, caller.body) == (400, error.body())
    assert caller.headers["content-type"] == "application/json"


async def test_an_error_after_the_first_chunk_is_a_frame_and_the_end(gateway):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    said = chunks(["a "])
    error = EngineFailed("it broke")
    gateway.deliver(reply(record, said[0], None, sequence=0))
    await settle()
    gateway.deliver(reply(record, error.body(), State.FAILED, http_status=500, sequence=1))
    await caller.task
    assert caller.body == frames([said[0], error.body()])
    assert caller.ended


async def test_a_newer_run_ends_a_stream_that_has_begun(gateway):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    said = chunks(["a "])
    gateway.deliver(reply(record, said[0], None), reply(record, said[0], None, run="2:v"))
    await caller.task
    assert caller.body.startswith(frames(said[:1]) + b'data: {"error"')
    assert DONE not in caller.body


async def test_a_lost_chunk_is_made_good(gateway):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    said = chunks(["a ", "b ", "c"])
    gateway.deliver(reply(record, said[0], None, sequence=0), reply(record, said[2], None, sequence=2))
    gateway.deliver(reply(record, whole("a b c"), sequence=4))
    await caller.task
    assert caller.body.startswith(frames(said[:1]))
    assert b'"content":"b c"' in caller.body
    assert caller.body.endswith(DONE)


async def test_a_silent_stream_shows_signs_of_life(gateway):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    now_s = asyncio.get_running_loop().time()
    gateway.submitter.replies.tick(now_s + 14.9)
    await settle()
    assert caller.parts == []
    for count in (1, 2):
        gateway.submitter.replies.tick(now_s + 15.1)
        await settle()
        assert caller.parts == [b": keep-alive\n\n"] * count
    gateway.deliver(reply(record, EngineFailed("x").body(), State.FAILED, http_status=500))
    await caller.task
    assert (caller.status, caller.ended) == (200, True)
    assert caller.parts[-1].startswith(b'data: {"error"')


async def test_a_caller_who_leaves_a_stream_cancels(gateway):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    gateway.deliver(reply(record, chunks(["a"])[0], None))
    caller.leave()
    gateway.submitter.replies.tick(asyncio.get_running_loop().time())
    await caller.task
    await settle()
    (cancel,) = gateway.kafka.on(TOPICS.control)
    assert Cancel.decode(cancel.value).request_id == request_id(record)


async def test_a_stream_that_kafka_does_not_confirm(gateway):
    gateway.kafka.confirms = False
    caller = Caller(gateway, stream=True)
    await caller.request()
    gateway.kafka.receipts[0].set_exception(Unavailable("no"))
    await caller.task
    assert (caller.status, caller.headers["retry-after"]) == (503, "1")
    gateway.kafka.receipts[-1].set_result(None)


async def test_a_deadline_ends_a_stream_and_cancels(gateway):
    caller = Caller(gateway, stream=True)
    await caller.request()
    gateway.submitter.replies.tick(asyncio.get_running_loop().time() + 602)
    await caller.task
    await settle()
    assert (caller.status, caller.headers["x-should-retry"]) == (504, "false")
    assert len(gateway.kafka.on(TOPICS.control)) == 1
