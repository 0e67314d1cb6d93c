"""Waiting callers: deadlines, strangers' replies, bad records, the end of a gateway."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.unit.gateway.parts import TOPICS, Caller, Gateway, deployed, reply, settle, whole

from headrace.contracts.events import Cancel
from headrace.core.ports import Place, Record


@pytest.fixture
async def gateway():
    return Gateway(deployed(limits={"deadline_s": 5.0}))


async def test_the_deadline_is_the_models_and_the_gateway_gives_the_worker_a_moment_more(gateway):
    caller = Caller(gateway)
    await caller.request()
    now_s = asyncio.get_running_loop().time()
    gateway.submitter.replies.tick(now_s + 5.9)
    await settle()
    assert caller.status == 0
    gateway.submitter.replies.tick(now_s + 6.1)
    await caller.task
    await settle()
    assert caller.status == 504
    assert caller.headers["x-should-retry"] == "false"
    (cancel,) = gateway.kafka.on(TOPICS.control)
    assert Cancel.decode(cancel.value).reason == "its deadline passed"


async def test_replies_to_others_are_counted_and_ignored(gateway):
    caller = Caller(gateway)
    record = await caller.request()
    stranger = reply(record, whole())
    stranger.headers["ce_causationid"] = b"req_of_another_gateway"
    gateway.deliver(stranger, Record(Place("t", 0, 0), None, None, {}, 0))
    assert gateway.submitter.replies.unknown == 2
    gateway.deliver(reply(record, whole()), reply(record, whole("twice")))
    await caller.task
    assert caller.body == whole()
    gateway.deliver(reply(record, whole("late")))
    assert gateway.submitter.replies.unknown == 3


async def test_a_reply_that_cannot_be_read_ends_one_request_only(gateway, caplog):
    first, second = Caller(gateway), Caller(gateway, stream=True)
    await settle()
    records = gateway.kafka.sent
    bad = [reply(record, b"") for record in records]
    bad[0].headers["ce_httpstatus"] = b"many"
    bad[1].headers["ce_sequence"] = b"last"
    gateway.deliver(*bad)
    await asyncio.gather(first.task, second.task)
    assert (first.status, second.status) == (500, 500)
    assert first.headers["x-should-retry"] == "false"
    assert "cannot be read" in caplog.text


async def test_a_gateway_that_ends_tells_whoever_waits(gateway):
    callers = [Caller(gateway), Caller(gateway, stream=True)]
    await settle()
    await gateway.submitter.stop()
    await asyncio.gather(*(caller.task for caller in callers))
    for caller in callers:
        assert (caller.status, caller.headers["x-should-retry"]) == (500, "false")
    assert len(gateway.kafka.on(TOPICS.control)) == 2


async def test_the_end_does_not_wait_for_a_kafka_that_is_away(gateway, monkeypatch):
    monkeypatch.setattr("headrace.gateway.submit._LAST_CANCELS_S", 0.01)
    caller = Caller(gateway)
    await caller.request()
    gateway.kafka.confirms = False
    await gateway.submitter.stop()
    await caller.task
    gateway.kafka.receipts[-1].cancel()


async def test_following_delivers_and_sweeping_ticks(gateway, monkeypatch):
    monkeypatch.setattr("headrace.gateway.replies._TICK_S", 0.001)
    caller, leaver = Caller(gateway), Caller(gateway, user="leaver")
    record = await caller.request()

    class Once:
        batches: Sequence[Sequence[Record]] = [[], [reply(record, whole())]]

        async def poll(self, timeout_s: float) -> Sequence[Record]:
            if self.batches:
                batch, *self.batches = self.batches
                return batch
            return await asyncio.Event().wait() or ()

    replies = gateway.submitter.replies
    tasks = [asyncio.create_task(replies.follow(Once())), asyncio.create_task(replies.sweep())]
    await caller.task
    leaver.leave()
    await leaver.task
    for task in tasks:
        task.cancel()
    assert (caller.status, leaver.status) == (200, 0)
