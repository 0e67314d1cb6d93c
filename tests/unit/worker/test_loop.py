"""The loop: every record gets a fate, and is completed only then."""

import asyncio
import time

import orjson
import pytest
from tests.unit.worker.conftest import body, record

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import ContextLengthExceeded, EngineDied
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.core.answers import ReplyRules
from headrace.core.blame import Blame
from headrace.core.cancels import Cancels
from headrace.core.ports import Final, Partial
from headrace.core.suspects import Suspects
from headrace.worker.fates import FateRules, Fates
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
        self.running = self.runs = 0
        self.most = 0
        self.aborted = []
        self.go_on = asyncio.Event()

    async def run(self, call):
        text = call.body.messages[0].text
        self.running += 1
        self.runs += 1
        self.most = max(self.most, self.running)
        try:
            if text == "wait":
                await self.go_on.wait()
            if text == "hang":
                await asyncio.Event().wait()
            if text == "crash":
                raise RuntimeError("out of luck")
            if text == "die":
                raise EngineDied("the engine is gone")
            if text == "long":
                raise ContextLengthExceeded("too long")
            if call.body.stream:
                yield Partial(b"1")
                yield Partial(b"2")
            if text == "break":
                raise RuntimeError("halfway")
            if text != "silent":
                yield Final(orjson.dumps({"text": text}), incomplete=text == "cut")
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted.append(text)
            raise
        finally:
            self.running -= 1


class Journal:
    """What is in flight: offsets and crashes."""

    def __init__(self):
        self.marked = {}

    def mark(self, place, crashes=0):
        self.marked[place.offset] = crashes

    def clear(self, place):
        del self.marked[place.offset]


@pytest.fixture
async def bench(deployed, log, topics):
    class Bench:
        pass

    bench = Bench()
    bench.source, bench.engine, bench.cancels, bench.log = Source(), Engine(), Cancels(), log
    answers = Replies(log, ReplyRules(topics, ("replies.*",), "/workers/w", "echo"))
    bench.fates = Fates(log, answers, FateRules(topics, deployed.manifest.retry))
    bench.suspects, bench.journal = Suspects(), Journal()
    bench.loop = Loop(
        Parts(
            deployed=deployed,
            engine=bench.engine,
            source=bench.source,
            replies=answers,
            fates=bench.fates,
            capacity=Engine.capacity,
            cancels=bench.cancels,
            suspects=bench.suspects,
            journal=bench.journal,
        )
    )
    bench.stop = asyncio.Event()
    bench.task = asyncio.create_task(bench.loop.run(bench.stop))
    yield bench
    bench.stop.set()
    await asyncio.gather(bench.task, return_exceptions=True)
    await bench.loop.drain(0)


def last(text, offset=0):
    """A request in its last attempt."""
    head = RequestHead(id=f"r{offset}", source="/t", reply=ReplyAddress("replies.here"), attempt=3)
    return record(body(text), offset=offset, head=head)


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
    bench.source.pending = [ask("a", 0), ask("cut", 1), last("crash", 2), ask("long", 3), last("silent", 4)]
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
    assert bench.fates.counts.completed == 5
    assert bench.journal.marked == {}
    assert bench.loop.settled == 5
    assert bench.loop.body_bytes == sum(
        map(len, (body(each) for each in ("a", "cut", "crash", "long", "silent")))
    )


def retried(log, topics):
    return [r for r in log.records if r.topic.startswith(topics.retries(""))]


async def test_what_the_engine_fails_on_is_tried_again_later(bench, topics):
    bench.source.pending = [ask("crash", 0), ask("silent", 1)]
    await until(lambda: sorted(bench.source.completed) == [0, 1])
    assert finals(bench.log) == {}
    assert [r.topic for r in bench.log.records] == [topics.retries("5s")] * 2
    headers = dict(bench.log.records[0].headers)
    assert (headers[h.ID], headers[h.ATTEMPT], headers[h.ERROR_CODE]) == (b"r0", b"2", b"engine_failed")
    assert bench.fates.counts.retried == 2
    assert bench.loop.settled == 2, "they are another record's business from here on"


async def test_the_last_attempt_is_answered_and_kept(bench, topics):
    bench.source.pending = [last("crash", 0)]
    await until(lambda: bench.source.completed == [0])
    letter, answer = bench.log.records
    assert (letter.topic, letter.value) == (topics.dead_letters, body("crash"))
    assert (answer.topic, finals(bench.log)) == ("replies.here", {"r0": State.FAILED})


async def test_no_other_attempt_past_the_deadline(bench, topics):
    head = RequestHead("r0", "/t", reply=ReplyAddress("replies.here"), expires_at_s=time.time() + 4)
    bench.source.pending = [record(body("crash"), head=head)]
    await until(lambda: bench.source.completed == [0])
    assert retried(bench.log, topics) == []
    assert finals(bench.log) == {"r0": State.FAILED}


async def test_no_other_attempt_once_the_caller_has_a_part_of_it(bench, topics):
    bench.source.pending = [ask("break", 0, stream=True), ask("break", 1)]
    await until(lambda: sorted(bench.source.completed) == [0, 1])
    assert finals(bench.log) == {"r0": State.FAILED}
    assert [dict(r.headers)[h.ID] for r in retried(bench.log, topics)] == [b"r1"]


async def test_a_caller_at_fault_gets_no_other_attempt_and_no_letter(bench, topics):
    bench.source.pending = [ask("long", 0)]
    await until(lambda: bench.source.completed == [0])
    assert [r.topic for r in bench.log.records] == ["replies.here"]


async def test_another_attempt_waits_for_kafka_and_the_engine_is_not_asked_again(bench, topics, monkeypatch):
    monkeypatch.setattr("headrace.worker.fates._RETRY_S", 0.05)
    bench.log.fail(3)
    bench.source.pending = [ask("crash", 0)]
    await until(lambda: bench.source.completed == [0])
    assert (len(retried(bench.log, topics)), bench.engine.runs) == (1, 1)


async def test_an_engine_that_died_leaves_everything_as_it_was(bench):
    bench.source.pending = [ask("wait", 0), ask("die", 1)]
    with pytest.raises(EngineDied):
        await bench.task
    assert set(bench.journal.marked) == {0, 1}
    assert (bench.source.completed, bench.source.aborted, bench.log.records) == ([], [], [])


def blamed(*entries):
    return [Blame(ask("", offset).place, crashes, f"{crashes}.{offset}") for offset, crashes in entries]


async def test_suspects_run_one_group_at_a_time_beside_the_others(bench):
    bench.suspects.learn(blamed((0, 1), (1, 1)))
    bench.source.pending = [ask("wait", 0), ask("wait", 1), ask("a", 2)]
    await until(lambda: bench.source.completed == [2])
    assert bench.journal.marked == {0: 1}
    bench.engine.go_on.set()
    await until(lambda: len(bench.source.completed) == 3)
    assert not bench.suspects


async def test_who_must_be_alone_waits_until_it_is_and_nothing_begins_beside_it(bench):
    bench.suspects.learn(blamed((1, 2)))
    bench.source.pending = [ask("wait", 0), ask("hang", 1)]
    await until(lambda: bench.engine.running == 1)
    bench.source.pending = [ask("a", 2)]
    await asyncio.sleep(0.1)
    assert set(bench.journal.marked) == {0}
    bench.engine.go_on.set()
    await until(lambda: set(bench.journal.marked) == {1})
    await asyncio.sleep(0.1)
    assert bench.source.completed == [0]
    bench.loop.cancel("r1")
    await until(lambda: bench.source.completed == [0, 1, 2])


async def test_the_guilty_run_no_more(bench, topics):
    bench.suspects.learn(blamed((0, 3)))
    bench.source.pending = [ask("die", 0)]
    await until(lambda: bench.source.completed == [0])
    letter, _ = bench.log.records
    assert (letter.topic, dict(letter.headers)[h.ERROR_CODE]) == (topics.dead_letters, b"engine_crashed")
    assert finals(bench.log) == {"r0": State.FAILED}


async def test_suspects_that_wait_are_given_back_by_a_drain(bench):
    bench.suspects.learn(blamed((0, 1), (1, 1)))
    bench.source.pending = [ask("hang", 0), ask("wait", 1)]
    await until(lambda: set(bench.journal.marked) == {0})
    bench.stop.set()
    await bench.task
    await bench.loop.drain(0)
    assert sorted(bench.source.aborted) == [0, 1]


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


async def test_a_record_with_headers_too_large_to_copy_is_dead_lettered_without_them(bench, topics):
    huge = {"reply_to": b"replies.here", "ce_attempt": b"many", "x": b"y" * 1_000_001}
    bench.source.pending = [record(headers=huge)]
    await until(lambda: bench.source.completed == [0])
    letter, answer = bench.log.records
    assert (letter.topic, letter.value) == (topics.dead_letters, b"")
    told = dict(letter.headers)
    assert (told[h.ORIGIN_OFFSET], told[h.ERROR_CODE]) == (b"0", b"invalid_request")
    assert "x" not in told
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


async def test_what_never_ran_is_no_measure_of_what_requests_cost(bench):
    bench.cancels.add("r0", time.time())
    late = RequestHead(id="r1", source="/t", reply=ReplyAddress("replies.here"), expires_at_s=time.time() - 1)
    unreadable = record(b"\xff", offset=2, headers={"reply_to": b"replies.here"})
    bench.source.pending = [ask("hang", 0), record(body("a"), offset=1, head=late), unreadable]
    await until(lambda: len(bench.source.completed) == 3)
    assert bench.engine.runs == 0
    assert (bench.fates.counts.completed, bench.loop.body_bytes, bench.loop.settled) == (0, 0, 3)
    assert sum(bench.fates.counts.by_state.values()) == 3


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
    assert bench.loop.settled == 1
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


async def test_who_waits_at_a_gateway_hears_of_a_fault_of_ours(bench, topics, monkeypatch):
    async def broken(engine, call, emit):
        raise ZeroDivisionError

    monkeypatch.setattr("headrace.worker.loop.execute", broken)
    head = RequestHead(id="r0", source="/t", reply=ReplyAddress(topics.replies, 5))
    bench.source.pending = [record(body("a"), head=head)]
    await until(lambda: bench.source.completed == [0])
    assert [(r.topic, r.partition) for r in bench.log.records[1:]] == [(topics.replies, 5)]


async def test_a_stranger_cannot_cancel_a_gateways_request(bench):
    bench.source.pending = [ask("hang", 0)]
    await until(lambda: bench.engine.running == 1)
    bench.loop.cancel("r0", trusted=False)  # without a secret, each request is a gateway's
    await asyncio.sleep(0.05)
    assert bench.engine.running == 1
    bench.loop.cancel("r0", trusted=True)
    await until(lambda: bench.source.completed == [0])
    assert finals(bench.log) == {"r0": State.CANCELLED}


async def test_an_event_that_came_twice_runs_once(bench, topics):
    head = RequestHead(id="twice", source="/t")
    bench.source.pending = [record(body("a"), offset=n, head=head) for n in (0, 1)]
    await until(lambda: len(bench.source.completed) == 2)
    assert bench.engine.runs == 1
    assert bench.loop.settled == 2
    assert [r.topic for r in bench.log.records] == [topics.results]


async def test_a_dead_letter_that_is_sent_again_runs_again(bench):
    head = RequestHead(id="twice", source="/t")
    again = record(body("a"), offset=1, head=head)
    again.headers[h.REPLAY_OF] = b"dead-letters-0-0"
    bench.source.pending = [record(body("a"), head=head), again]
    await until(lambda: len(bench.source.completed) == 2)
    assert bench.engine.runs == 2
