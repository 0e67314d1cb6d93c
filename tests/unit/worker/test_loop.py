"""The loop: every record gets a fate, and is completed only then."""

import asyncio
import time

import orjson
import pytest
from tests.unit.worker.conftest import body, record

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import ContextLengthExceeded
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.core.answers import ReplyRules
from headrace.core.cancels import Cancels
from headrace.core.ports import Final, Partial
from headrace.worker.loop import Loop, Parts
from headrace.worker.replies import Replies


class Source:
    """Fills `WorkSource` with given records."""

    run = "1:w"

    def __init__(self):
        self.pending = []
        self.completed = []
        self.aborted = []

    async def take(self, max_records, timeout_s):
        taken, self.pending = self.pending[:max_records], self.pending[max_records:]
        if not taken:
            await asyncio.sleep(0.01)
        return taken

    def complete(self, place):
        self.completed.append(place.offset)

    def abort(self, place):
        self.aborted.append(place.offset)


class Engine:
    """Fills `Engine`: does what the prompt says."""

    capacity = 4

    def __init__(self):
        self.running = 0
        self.most = 0
        self.aborted = []
        self.go_on = asyncio.Event()

    async def run(self, call):
        text = call.body.messages[0].text
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if text == "wait":
                await self.go_on.wait()
            if text == "hang":
                await asyncio.Event().wait()
            if text == "crash":
                raise RuntimeError("out of luck")
            if text == "long":
                raise ContextLengthExceeded("too long")
            if call.body.stream:
                yield Partial(b"1")
                yield Partial(b"2")
            if text != "silent":
                yield Final(orjson.dumps({"text": text}), incomplete=text == "cut")
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted.append(text)
            raise
        finally:
            self.running -= 1


@pytest.fixture
async def bench(deployed, log, topics):
    class Bench:
        pass

    bench = Bench()
    bench.source, bench.engine, bench.cancels, bench.log = Source(), Engine(), Cancels(), log
    answers = Replies(log, ReplyRules(topics, ("replies.*",), "/workers/w", "echo"))
    bench.loop = Loop(
        Parts(deployed, bench.engine, bench.source, log, answers, bench.cancels, topics, Engine.capacity)
    )
    bench.stop = asyncio.Event()
    bench.task = asyncio.create_task(bench.loop.run(bench.stop))
    yield bench
    bench.stop.set()
    await asyncio.gather(bench.task, return_exceptions=True)
    await bench.loop.drain(0)


def ask(text, offset=0, **more):
    head = RequestHead(id=f"r{offset}", source="/t", reply=ReplyAddress("replies.here"))
    return record(body(text, **more), offset=offset, head=head)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def finals(log):
    return {
        dict(r.headers)[h.CAUSATION_ID].decode(): replies.final_state(dict(r.headers))
        for r in log.records
        if replies.final_state(dict(r.headers))
    }


async def test_each_gets_its_answer_and_is_completed(bench):
    bench.source.pending = [ask("a", 0), ask("cut", 1), ask("crash", 2), ask("long", 3), ask("silent", 4)]
    await until(lambda: len(bench.source.completed) == 5)
    assert finals(bench.log) == {
        "r0": State.COMPLETED,
        "r1": State.INCOMPLETE,
        "r2": State.FAILED,
        "r3": State.FAILED,
        "r4": State.FAILED,
    }
    errors = [r.value for r in bench.log.records if b'"error"' in r.value]
    assert sorted(orjson.loads(e)["error"]["code"] for e in errors) == [
        "context_length_exceeded",
        "engine_failed",
        "engine_failed",
    ]
    assert bench.loop.counts.completed == 5


async def test_a_slow_request_holds_back_no_other(bench):
    bench.source.pending = [ask("wait", 0), ask("a", 1), ask("b", 2)]
    await until(lambda: bench.source.completed == [1, 2])
    bench.engine.go_on.set()
    await until(lambda: bench.source.completed == [1, 2, 0])


async def test_never_more_than_the_engine_holds(bench):
    bench.source.pending = [ask("wait", n) for n in range(10)]
    await until(lambda: bench.engine.running == 4)
    await asyncio.sleep(0.1)
    assert bench.engine.most == 4
    bench.engine.go_on.set()
    await until(lambda: len(bench.source.completed) == 10)
    assert bench.engine.most == 4


async def test_what_cannot_be_read_is_dead_lettered_and_answered(bench, topics):
    bench.source.pending = [record(b"\xff", offset=7, headers={"reply_to": b"replies.here", "x": b"y"})]
    await until(lambda: bench.source.completed == [7])
    letter, answer = bench.log.records
    assert (letter.topic, letter.value) == (topics.dead_letters, b"\xff")
    told = dict(letter.headers)
    assert (told[h.ORIGIN_OFFSET], told[h.ERROR_CODE], told["x"]) == (b"7", b"malformed_body", b"y")
    assert answer.topic == "replies.here"


async def test_a_record_too_large_to_copy_is_dead_lettered_without_its_bytes(bench, topics):
    bench.source.pending = [
        record(b"x" * 1_000_001, headers={"reply_to": b"replies.here", "ce_attempt": b"many"})
    ]
    await until(lambda: bench.source.completed == [0])
    letter, answer = bench.log.records
    assert (letter.topic, letter.value) == (topics.dead_letters, b"")
    assert dict(letter.headers)[h.ORIGIN_OFFSET] == b"0"
    assert answer.topic == "replies.here"


async def test_nothing_is_completed_while_kafka_takes_no_answer(bench, monkeypatch):
    monkeypatch.setattr("headrace.worker.replies._RETRY_S", (0.05,))
    bench.log.fail(4)
    bench.source.pending = [ask("a", 0)]
    await asyncio.sleep(0.1)
    assert bench.source.completed == []
    await until(lambda: bench.source.completed == [0])
    assert len(bench.log.records) == 1


async def test_a_cancel_aborts_the_engine_and_is_an_answer(bench):
    bench.source.pending = [ask("hang", 0), ask("wait", 1)]
    await until(lambda: bench.engine.running == 2)
    bench.loop.cancel("r0")
    await until(lambda: bench.source.completed == [0])
    assert bench.engine.aborted == ["hang"]
    assert finals(bench.log) == {"r0": State.CANCELLED}


async def test_a_cancel_that_came_first_is_obeyed(bench):
    bench.cancels.add("r0", time.time())
    bench.source.pending = [ask("hang", 0)]
    await until(lambda: bench.source.completed == [0])
    assert bench.engine.most == 0
    assert finals(bench.log) == {"r0": State.CANCELLED}


async def test_a_deadline_stops_what_runs(bench):
    head = RequestHead(
        id="r0", source="/t", reply=ReplyAddress("replies.here"), expires_at_s=time.time() + 0.3
    )
    bench.source.pending = [record(body("hang"), head=head)]
    await until(lambda: bench.source.completed == [0])
    assert finals(bench.log) == {"r0": State.EXPIRED}
    assert bench.engine.aborted == ["hang"]


async def test_a_drain_finishes_what_it_can_and_leaves_the_rest_to_others(bench):
    bench.source.pending = [ask("wait", 0), ask("hang", 1)]
    await until(lambda: bench.engine.running == 2)
    bench.stop.set()
    await bench.task
    draining = asyncio.create_task(bench.loop.drain(0.3))
    bench.engine.go_on.set()
    assert await draining == 1
    assert bench.source.completed == [0]
    assert finals(bench.log) == {"r0": State.COMPLETED}


async def test_chunks_come_before_the_end(bench):
    bench.source.pending = [ask("a", 0, stream=True)]
    await until(lambda: bench.source.completed == [0])
    assert [r.value for r in bench.log.records] == [b"1", b"2", b'{"text":"a"}']


async def test_a_fault_of_ours_is_dead_lettered_not_lost(bench, topics, monkeypatch):
    async def broken(engine, call, emit):
        raise ZeroDivisionError

    monkeypatch.setattr("headrace.worker.loop.execute", broken)
    bench.source.pending = [ask("a", 0)]
    await until(lambda: bench.source.completed == [0])
    assert bench.log.records[0].topic == topics.dead_letters
    assert finals(bench.log) == {"r0": State.FAILED}


async def test_a_stranger_cannot_cancel_a_gateways_request(bench):
    bench.source.pending = [ask("hang", 0)]
    await until(lambda: bench.engine.running == 1)
    bench.loop.cancel("r0", trusted=False)  # without a secret, each request is a gateway's
    await asyncio.sleep(0.05)
    assert bench.engine.running == 1
    bench.loop.cancel("r0", trusted=True)
    await until(lambda: bench.source.completed == [0])
    assert finals(bench.log) == {"r0": State.CANCELLED}
