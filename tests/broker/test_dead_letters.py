"""Dead letters on a real broker: found by their place, replayed once, and their bodies fetched."""

import dataclasses

import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from headrace.cli.dead_letters import read_all, replay_each
from headrace.contracts import headers as h
from headrace.contracts import identity
from headrace.contracts.errors import MalformedBody
from headrace.core import letters
from headrace.core.ports import Outgoing, Place, Record
from headrace.kafka.lookup import Lookup, every
from headrace.kafka.producer import Producer

SECRET = "0123456789abcdef"
KEY = identity.signing_key(SECRET)


@pytest.fixture
async def bench(settings, model):
    bench = Bench(settings.model_copy(update={"secret_key": SecretStr(SECRET)}), model[1].name)
    await bench.producer.start()
    yield bench
    await bench.producer.stop()


class Bench:
    def __init__(self, settings, lane):
        self.settings = settings
        self.topics = settings.kafka.topics
        self.lane = lane
        self.producer = Producer(settings.kafka, source="test")
        self.said = []

    async def put(self, topic, value, headers=None, key=None, partition=0):
        record = Outgoing(topic, value, key, list((headers or {}).items()), partition)
        sent = await (await self.producer.send(record))
        return Place(sent.topic, sent.partition, sent.offset)

    async def request(self, value, headers=None):
        """A request on its lane, as the worker reads it."""
        place = await self.put(self.lane, value, headers)
        async with Lookup(self.settings.kafka) as lookup:
            return await lookup.at(place)

    async def bury(self, record, *, whole=True):
        """Dead-letter it, as the worker does; gives the letter's place."""
        key = record.headers.get(h.ID) or letters.full(record.place).encode()
        sent = letters.letter(self.topics, record, MalformedBody("broken"), key)
        sent = sent if whole else letters.versions(sent)[1]
        return await self.put(sent.topic, sent.value, dict(sent.headers), sent.key, partition=1)

    async def shelf(self):
        return await read_all(self.settings)

    async def replay(self, chosen):
        return await replay_each(self.settings, chosen, self.said.append)

    async def lane_records(self):
        return [record async for record in every(self.settings.kafka, self.lane)]

    async def replayed(self):
        return [record for record in await self.lane_records() if h.REPLAY_OF in record.headers]


async def test_a_record_is_found_by_its_place_in_any_order(bench):
    places = [await bench.put(bench.lane, str(n).encode(), partition=n % 2) for n in range(6)]
    async with Lookup(bench.settings.kafka) as lookup:
        for number in (5, 0, 3, 1, 4, 2, 2):
            assert (await lookup.at(places[number])).value == str(number).encode()
        assert await lookup.at(places[5]._replace(offset=3)) is None
        assert await lookup.at(places[5]._replace(offset=10**9)) is None


async def test_a_place_that_a_transaction_left_empty_holds_nothing(bench):
    producer = AIOKafkaProducer(
        bootstrap_servers=bench.settings.kafka.bootstrap_servers, transactional_id=bench.lane
    )
    await producer.start()
    await producer.begin_transaction()
    aborted = await producer.send_and_wait(bench.lane, b"no", partition=3)
    await producer.abort_transaction()
    await producer.stop()
    place = Place(bench.lane, 3, aborted.offset)
    async with Lookup(bench.settings.kafka) as lookup:
        assert await lookup.at(place) is None
        after = await bench.put(bench.lane, b"yes", partition=3)
        assert await lookup.at(place) is None
        assert (await lookup.at(after)).value == b"yes"


async def test_a_letter_is_listed_and_replayed_with_its_exact_bytes(bench):
    value = b' {"broken": \xff'
    place = await bench.bury(await bench.request(value, {"correlation_id": b"\x00\xff", "reply_to": b"mine"}))
    (letter,) = (await bench.shelf()).letters
    assert (letter.place, letter.model_slug, letter.code) == (place, "echo", "malformed_body")
    assert await bench.replay([letter]) == []
    (again,) = await bench.replayed()
    assert again.value == value
    expected = {"correlation_id": b"\x00\xff", "reply_to": b"mine", h.REPLAY_OF: letters.full(place).encode()}
    assert again.headers == expected
    assert bench.said == [f"{letters.short(place)} {letter.id} -> {letters.full(again.place)}"]


async def test_a_letter_that_was_replayed_says_so_for_ever(bench):
    first = await bench.bury(await bench.request(b"1", {h.ID: b"same"}))
    second = await bench.bury(await bench.request(b"2", {h.ID: b"same"}))
    shelf = await bench.shelf()
    assert [letter.place for letter in shelf.letters] == [first, second]
    await bench.replay([shelf.letters[1]])
    after = await bench.shelf()
    assert after.letters == shelf.letters
    assert after.replayed == {second}


async def test_a_gateways_request_is_signed_anew_for_another_wait(bench):
    headers = {
        h.ID: b"req_1",
        h.TENANT_ID: b"acme",
        h.EXPIRY_TIME: b"2020-01-01T00:00:00Z",
        h.REPLY_TOPIC: bench.topics.replies.encode(),
        h.REPLY_PARTITION: b"7",
    }
    headers[h.SIGNATURE] = identity.sign(KEY, identity.claims_of(headers, "echo"))
    await bench.bury(await bench.request(b"{", headers))
    assert await bench.replay((await bench.shelf()).letters) == []
    (again,) = await bench.replayed()
    assert again.headers.keys() == {h.ID, h.TENANT_ID, h.SIGNATURE, h.REPLAY_OF}
    assert identity.is_genuine(KEY, again.headers, "echo")


async def test_a_body_too_large_for_the_letter_comes_from_its_origin(bench):
    value = b"x" * 900_000
    await bench.bury(await bench.request(value), whole=False)
    (letter,) = (await bench.shelf()).letters
    assert letter.size_bytes == 0
    assert await bench.replay([letter]) == []
    (again,) = await bench.replayed()
    assert again.value == value


async def test_what_cannot_be_replayed_is_a_sentence_and_the_others_go_on(bench):
    gone = Record(Place(bench.lane, 0, 10**6), None, b"", {}, 0)
    other = await bench.request(b"other's", {h.ID: b"other"})
    taken = Record(other.place, None, b"", {h.ID: b"mine"}, other.timestamp_ms)
    nowhere = Record(Place(f"{bench.topics.prefix}requests.gone.flex", 0, 0), None, b"{", {}, 0)
    no_request = Record(Place(bench.topics.results, 0, 0), None, b"{", {}, 0)
    forged = Record(Place(bench.lane, 0, 0), None, b"{", {h.ID: b"req_1"}, 0)
    for record in (gone, taken, nowhere, no_request, forged):
        await bench.bury(record)
    await bench.bury(await bench.request(b"good"))
    failed = await bench.replay((await bench.shelf()).letters)
    words = ["no longer at", "no longer at", "deploy the model first", "no request topic", "no signature"]
    assert [word in sentence for word, sentence in zip(words, failed, strict=True)] == [True] * 5
    assert [record.value for record in await bench.replayed()] == [b"good"]
    assert len((await bench.shelf()).replayed) == 1


async def test_a_letter_that_is_gone_is_a_sentence(bench):
    await bench.bury(await bench.request(b"1"))
    (letter,) = (await bench.shelf()).letters
    lost = dataclasses.replace(letter, place=letter.place._replace(offset=10**6))
    assert "is no longer kept" in (await bench.replay([lost]))[0]
    assert await bench.replayed() == []
