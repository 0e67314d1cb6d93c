"""Answers that lie in the bucket reach whoever waits, and nothing else that lies there does."""

import asyncio
import logging

import pytest
from tests.unit.gateway.parts import Caller, Gateway, chunks, deployed, reply, request_id, settle, whole

from headrace.contracts import claims
from headrace.contracts import headers as h
from headrace.contracts.claims import Made
from headrace.contracts.errors import InternalError, Unavailable
from headrace.contracts.states import State
from headrace.gateway.claims import Collector

NOW_S = 1_790_000_000.0


class Store:
    """Fills `ClaimStore`; `gate` holds what is asked for until it is set."""

    bucket = "b"

    def __init__(self):
        self.kept = {}
        self.asked = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure = None

    async def get(self, claim, timeout_s):
        self.asked.append(claim.key)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.kept[claim.key]


@pytest.fixture
async def store():
    return Store()


@pytest.fixture
async def gateway(store):
    gateway = Gateway(deployed())
    gateway.submitter.replies.collector = Collector(store, 10_000)
    return gateway


def referring(store, record, value, *, made=None, bucket="b", state=State.COMPLETED, **head):
    """A final reply whose value lies in the store."""
    claim = claims.claim(made or Made("echo", request_id(record), "1:w"), bucket, value, NOW_S)
    store.kept[claim.key] = value
    found = reply(record, claims.pointer(claim), state, **head)
    found.headers.update(claims.write(claim))
    return found


async def test_a_large_answer_comes_as_if_it_had_been_in_the_record(gateway, store):
    caller = Caller(gateway)
    gateway.deliver(referring(store, await caller.request(), whole("large"), state=State.INCOMPLETE))
    await caller.task
    assert (caller.status, caller.body) == (200, whole("large"))


async def test_others_are_served_while_one_is_fetched(gateway, store):
    store.gate.clear()
    first, second = Caller(gateway), Caller(gateway)
    await settle()
    records = gateway.kafka.sent
    gateway.deliver(referring(store, records[0], whole("large")), reply(records[1], whole("small")))
    await second.task
    assert (second.body, first.status) == (whole("small"), 0)
    store.gate.set()
    await first.task
    assert first.body == whole("large")


async def test_a_stream_without_a_gap_asks_for_nothing(gateway, store):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    said = chunks(["one ", "two"])
    gateway.deliver(*(reply(record, chunk, None, sequence=n) for n, chunk in enumerate(said)))
    gateway.deliver(referring(store, record, whole("one two"), sequence=len(said)))
    await caller.task
    assert caller.body.endswith(b"data: [DONE]\n\n")
    assert store.asked == []


async def test_a_stream_with_a_gap_is_closed_from_the_bucket(gateway, store):
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    said = chunks(["one ", "two ", "three"])
    gateway.deliver(reply(record, said[0], None, sequence=0))
    gateway.deliver(referring(store, record, whole("one two three"), sequence=len(said)))
    await caller.task
    assert len(store.asked) == 1
    assert b'"two three"' in caller.body
    assert caller.body.endswith(b"data: [DONE]\n\n")


async def test_nobody_waits_any_more_so_nothing_is_fetched(gateway, store):
    caller = Caller(gateway)
    record = await caller.request()
    gateway.deliver(reply(record, whole()), referring(store, record, whole("late")))
    await caller.task
    assert (caller.body, store.asked) == (whole(), [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bucket": "other"}, "no result in bucket b"),
        ({"made": Made("echo", "req_other", "1:w")}, "another request"),
        ({"value": b"x" * 10_001}, "HEADRACE_GATEWAY_MAX_RESULT_BYTES"),
    ],
)
async def test_what_may_not_be_read_is_not_asked_for(gateway, store, changes, said):
    caller = Caller(gateway)
    gateway.deliver(referring(store, await caller.request(), **({"value": whole()} | changes)))
    await caller.task
    assert (caller.status, store.asked) == (500, [])
    assert said in caller.body.decode()
    assert caller.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Unavailable("The bucket is away"), 503),
        (InternalError("It is not what was written"), 500),
        (RuntimeError("no"), 500),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_cannot_be_had_is_an_error_and_nobody_asks_again(
    gateway, store, failure, status, stream, caplog
):
    caplog.set_level(logging.WARNING)
    store.failure = failure
    caller = Caller(gateway, stream=stream)
    gateway.deliver(referring(store, await caller.request(), whole()))
    await caller.task
    assert (caller.status, caller.headers["x-should-retry"]) == (status, "false")
    assert b"data_sha256" not in caller.body
    assert caplog.records


async def test_a_gateway_without_a_bucket_says_so(store):
    gateway = Gateway(deployed())
    caller = Caller(gateway)
    gateway.deliver(referring(store, await caller.request(), whole()))
    await caller.task
    assert caller.status == 500
    assert b"HEADRACE_S3_BUCKET" in caller.body


async def test_headers_that_lack_a_part_of_the_reference_are_an_error(gateway, store):
    caller = Caller(gateway)
    record = referring(store, await caller.request(), whole())
    del record.headers[h.DATA_SHA256]
    gateway.deliver(record)
    await caller.task
    assert caller.status == 500
