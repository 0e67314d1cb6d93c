"""The retry service: what waits goes back, is answered, or is set aside, and only then is it committed."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from headrace.contracts import headers as h
from headrace.contracts import identity, replies
from headrace.contracts.errors import BodyTooLarge, Unavailable
from headrace.contracts.states import State
from headrace.contracts.topics import Lane, Topics
from headrace.core.cancels import Cancels
from headrace.core.identity import Trust
from headrace.core.ports import Outgoing, Place, Record
from headrace.dispatcher import answering, retries, stopping
from headrace.dispatcher.answering import Answering
from headrace.dispatcher.retries import Parts, Retries

_TOPICS = Topics()
_LANE = _TOPICS.requests("echo", Lane.FLEX)


@dataclass
class _Source:
    """Gives its batches one by one, then stops the service."""

    stop: asyncio.Event
    batches: list[Sequence[Record]]
    commits: int = 0

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        if self.batches:
            return self.batches.pop(0)
        self.stop.set()
        return []

    async def commit(self) -> bool:
        self.commits += 1
        return True


@dataclass
class _Publisher:
    """Keeps what is sent; raises the given errors first."""

    errors: list[Exception] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=lambda: {_LANE: 4, "my.replies": 1})

    async def send(self, record: Outgoing) -> "asyncio.Future[Place]":
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append(record)
        receipt: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        receipt.set_result(Place(record.topic, 0, 0))
        return receipt

    async def partitions(self, topic: str) -> int:
        return self.known.get(topic, 0)


class Bench:
    def __init__(self) -> None:
        self.publisher, self.cancels, self.trust = _Publisher(), Cancels(), Trust(None)
        self.source: _Source | None = None

    async def run(self, *records: Record) -> list[Outgoing]:
        stop = asyncio.Event()
        self.source = _Source(stop, [records])
        service = Answering(self.publisher, _TOPICS, ("*.replies",))
        await Retries(Parts(self.source, service, self.cancels, _TOPICS, self.trust)).run(stop)
        return self.publisher.sent


@pytest.fixture
def bench() -> Bench:
    return Bench()


def waiting(**changes: bytes | None) -> Record:
    headers = {
        h.ID: b"r1",
        h.ATTEMPT: b"2",
        h.NOT_BEFORE: b"2026-01-01T00:00:00Z",
        h.ORIGIN_TOPIC: _LANE.encode(),
        "reply_to": b"my.replies",
        "correlation_id": b"c",
        **changes,
    }
    kept = {name: value for name, value in headers.items() if value is not None}
    return Record(Place(_TOPICS.retries("5s"), 0, 7), b"k", b'{"a":1}', kept, int(time.time() * 1000))


def state(record: Outgoing) -> State | None:
    return replies.final_state(dict(record.headers or []))


async def test_what_is_due_goes_back_to_its_lane(bench: Bench) -> None:
    (back,) = await bench.run(waiting())
    assert (back.topic, back.key, back.value) == (_LANE, b"k", b'{"a":1}')
    headers = dict(back.headers or [])
    assert (headers[h.ID], headers[h.ATTEMPT], headers["reply_to"]) == (b"r1", b"2", b"my.replies")
    assert h.NOT_BEFORE not in headers
    assert bench.source is not None
    assert bench.source.commits == 1


async def test_cancelled_meanwhile(bench: Bench) -> None:
    bench.cancels.add("r1", time.time())
    (reply,) = await bench.run(waiting())
    assert (reply.topic, state(reply)) == ("my.replies", State.CANCELLED)
    assert dict(reply.headers or [])["correlation_id"] == b"c"


async def test_late(bench: Bench) -> None:
    late = {h.EXPIRY_TIME: b"2026-01-01T00:00:01Z"}
    one, two = await bench.run(waiting(**late), waiting(reply_to=None, **late))
    assert (one.topic, state(one)) == ("my.replies", State.EXPIRED)
    assert (two.topic, state(two)) == (_TOPICS.results, State.EXPIRED)


@pytest.mark.parametrize(
    "wrong",
    [
        {h.NOT_BEFORE: None},
        {h.NOT_BEFORE: b"soon"},
        {h.ORIGIN_TOPIC: None},
        {h.ORIGIN_TOPIC: b"elsewhere"},
        {h.ATTEMPT: b"many"},
    ],
)
async def test_what_cannot_be_understood_is_set_aside(bench: Bench, wrong: dict[str, bytes | None]) -> None:
    letter, reply = await bench.run(waiting(**wrong))
    assert (letter.topic, letter.value) == (_TOPICS.dead_letters, b'{"a":1}')
    assert (reply.topic, state(reply)) == ("my.replies", State.FAILED)
    assert dict(reply.headers or [])[h.CAUSATION_ID] == b"r1"


async def test_a_model_that_is_gone(bench: Bench) -> None:
    bench.publisher.known.pop(_LANE)
    letter, reply = await bench.run(waiting())
    assert letter.topic == _TOPICS.dead_letters
    assert dict(letter.headers or [])[h.ERROR_CODE] == b"model_not_found"
    assert (reply.topic, state(reply)) == ("my.replies", State.FAILED)


async def test_kafka_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_RETRY_S", 0.01)
    bench.publisher.errors = [Unavailable("away")] * 3
    (back,) = await bench.run(waiting())
    assert back.topic == _LANE


async def test_what_kafka_will_not_take_back_is_set_aside_without_its_bytes(bench: Bench) -> None:
    bench.publisher.errors = [BodyTooLarge("too large")] * 2
    letter, reply = await bench.run(waiting())
    assert (letter.topic, letter.value) == (_TOPICS.dead_letters, b"")
    assert state(reply) is State.FAILED


async def test_what_has_too_large_headers_is_set_aside_without_them(bench: Bench) -> None:
    bench.publisher.errors = [BodyTooLarge("too large")] * 3
    letter, reply = await bench.run(waiting())
    assert {name for name, _ in letter.headers or ()} == {
        *(h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET),
        *(h.ERROR_CODE, h.ERROR_MESSAGE),
    }
    assert state(reply) is State.FAILED


async def test_a_lane_that_goes_while_kafka_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_RETRY_S", 0.01)

    async def send(record: Outgoing) -> "asyncio.Future[Place]":
        if record.topic == _LANE:
            bench.publisher.known.pop(_LANE, None)
            raise Unavailable("away")
        return await _Publisher.send(bench.publisher, record)

    monkeypatch.setattr(bench.publisher, "send", send)
    letter, reply = await bench.run(waiting())
    assert (letter.topic, state(reply)) == (_TOPICS.dead_letters, State.FAILED)


async def test_an_answer_that_the_callers_topic_cannot_take_goes_to_results(bench: Bench) -> None:
    bench.cancels.add("r1", time.time())
    bench.publisher.errors = [BodyTooLarge("too large")]
    (reply,) = await bench.run(waiting())
    assert (reply.topic, state(reply)) == (_TOPICS.results, State.CANCELLED)
    bench.publisher.errors = [BodyTooLarge("too large")]
    _, reply = await bench.run(waiting(correlation_id=b"x" * 20_000))
    assert reply.topic == "my.replies"
    assert "correlation_id" not in dict(reply.headers or [])


async def test_told_to_stop_while_kafka_is_away_nothing_is_committed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_GRACE_S", 0.01)
    bench.publisher.errors = [Unavailable("away")] * 1000
    stop = asyncio.Event()
    source = _Source(stop, [[waiting()]])
    service = Answering(bench.publisher, _TOPICS, ("*.replies",))
    running = asyncio.create_task(
        Retries(Parts(source, service, bench.cancels, _TOPICS, bench.trust)).run(stop)
    )
    await asyncio.sleep(0.05)
    stop.set()
    await running
    assert (source.commits, bench.publisher.sent) == (0, [])


async def test_a_strangers_cancel_does_not_count_for_a_gateways_request(bench: Bench) -> None:
    key = identity.signing_key("s" * 32)
    bench.trust = Trust(key)
    record = waiting(**{h.ID: b"req_1", h.TENANT_ID: b"t"})
    signature = identity.sign(key, identity.claims_of(record.headers, "echo"))
    signed = record._replace(headers=record.headers | {h.SIGNATURE: signature})
    bench.cancels.add("req_1", time.time(), trusted=False)
    (back,) = await bench.run(signed)
    assert back.topic == _LANE
    _, letter, reply = await bench.run(record)
    assert letter.topic == _TOPICS.dead_letters, "without a signature nobody may have a gateway's id"
    assert dict(reply.headers or [])[h.CAUSATION_ID] == b"headrace.retries.5s-0-7", "nor end its request"


def test_when_it_does_not_say_it_is_due_at_once() -> None:
    assert retries.due_s(waiting(**{h.NOT_BEFORE: b"soon"})) == 0.0
    assert retries.due_s(waiting()) == 1767225600.0
