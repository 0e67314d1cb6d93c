"""`headrace scaler replay` and `headrace top` read what the scaler has decided."""

import pytest
from tests.unit.core.test_history import decision

from headrace.cli import past, simulate
from headrace.core.ports import Outgoing
from headrace.kafka.producer import Producer

pytestmark = pytest.mark.broker


@pytest.fixture
async def decided(settings, model):
    """Forty decisions, every fourth of them about another model, and something that is none."""
    producer = Producer(settings.kafka, source="test")
    await producer.start()
    for number in range(40):
        name = "m" if number % 4 else "other"
        value = decision(float(number), number).model_copy(update={"model": name}).encode()
        await (await producer.send(Outgoing(settings.kafka.topics.decisions, value, name.encode())))
    await (await producer.send(Outgoing(settings.kafka.topics.decisions, b"what", b"m")))
    await producer.stop()


async def test_all_that_was_decided_about_a_model_in_its_order(settings, decided):
    found = await simulate._decisions(settings, "m")
    assert [each.at_s for each in found] == [float(number) for number in range(40) if number % 4]


async def test_the_latest_and_then_those_that_come(settings, decided):
    async with past.decisions(settings, 3) as reader:
        found = [record async for records in past.all_of(reader) for record in records]
        assert [record.value for record in found][-1] == b"what"
        assert len(found) == 3
        assert [records async for records in past.all_of(reader)] == []
