"""A broker that gives each user only what is theirs: our roles their prefix, a caller less."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from tests.broker.secure_broker import (
    CALLER,
    USER,
    Names,
    Resource,
    Right,
    SecureBroker,
    permit,
    secure_broker,
)
from tests.broker.test_security import sasl

from headrace.contracts.errors import NotPermitted, SetupError
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import Lane, TopicPlan
from headrace.core.answers import Outcome, ReplyRules
from headrace.core.ports import Outgoing
from headrace.dispatcher.answering import Answering
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings
from headrace.worker.replies import Replies

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

DONE = Outcome(State.COMPLETED, b'{"id":"x"}')


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with secure_broker(tmp_path_factory.mktemp("secure")) as broker:
        yield broker


@pytest.fixture
async def ours(secure: SecureBroker) -> KafkaSettings:
    """What our roles use; all topics are there."""
    kafka = sasl(secure)
    async with Admin(kafka) as admin:
        await admin.ensure_topics([*kafka.topics.shared_plans(), *kafka.topics.request_plans("echo", 1)])
    return kafka


@pytest.fixture
async def theirs(secure: SecureBroker, ours: KafkaSettings) -> KafkaSettings:
    """What a caller uses, with the rights that docs/operations/security-of-the-wire.md gives it."""
    prefix = ours.topic_prefix
    await permit(secure, CALLER, Right.WRITE, Resource.TOPIC, f"{prefix}requests.echo.", Names.PREFIXED)
    await permit(secure, CALLER, Right.READ, Resource.TOPIC, f"{prefix}results", Names.LITERAL)
    return ours.model_copy(update={"sasl_username": CALLER})


@pytest.fixture
async def reply_topic(secure: SecureBroker) -> str:
    """One that our roles know of and may not write to."""
    name = f"replies.{uuid.uuid4().hex[:8]}"
    anonymous = KafkaSettings(bootstrap_servers=secure.plain, replication_factor=1, min_insync_replicas=1)
    async with Admin(anonymous) as admin:
        await admin.ensure_topics([TopicPlan(name, 1)])
    await permit(secure, "ann", Right.READ, Resource.TOPIC, name, Names.LITERAL)
    return name


async def publish(kafka: KafkaSettings, topic: str) -> None:
    producer = Producer(kafka, source="test")
    await producer.start()
    try:
        async with asyncio.timeout(20):
            await (await producer.send(Outgoing(topic, b"hello")))
    finally:
        await producer.stop()


async def results(kafka: KafkaSettings) -> list[dict[str, bytes]]:
    async with PartitionReader(kafka, {kafka.topics.results: None}) as reader:
        return [record.headers for record in await reader.read_to_end()]


@pytest.mark.parametrize("resource", list(Resource))
async def test_what_we_may_not_read_of_one_model_is_that_models_fault(
    secure: SecureBroker, ours: KafkaSettings, resource: Resource
) -> None:
    topics = ours.topics
    await publish(ours, topics.requests("echo", Lane.DEFAULT))
    async with Admin(ours) as admin:
        await admin.ensure_topics(topics.request_plans("shut", 1))
        slugs = ["echo", "shut"]
        assert (await admin.follow_backlog(slugs, slugs)).faults == {}
        is_group = resource is Resource.GROUP
        name = topics.group("shut") if is_group else f"{topics.prefix}requests.shut."
        names = Names.LITERAL if is_group else Names.PREFIXED
        await permit(secure, USER, Right.ALL, resource, name, names, deny=True)
        followed = await admin.follow_backlog(slugs, slugs)
        read = await admin.backlog()
    for found in (followed, read):
        assert {row.model_slug: row.requests for row in found.rows if row.lane is Lane.DEFAULT} == {"echo": 1}
    assert "AuthorizationFailedError" in followed.faults["shut"]
    assert not followed.is_deaf
    # Topics that we may not even see are as if they were not there.
    assert read.faults.keys() == ({"shut"} if is_group else set())


async def test_a_caller_may_ask_and_read_results(ours: KafkaSettings, theirs: KafkaSettings) -> None:
    topic = theirs.topics.requests("echo", Lane.DEFAULT)
    await publish(theirs, topic)
    async with PartitionReader(ours, {topic: None}) as reader:
        assert [record.value for record in await reader.read_to_end()] == [b"hello"]
    await publish(ours, ours.topics.results)
    assert len(await results(theirs)) == 1


@pytest.mark.parametrize("name", ["control", "models", "workers", "replies", "results", "dead_letters"])
async def test_a_caller_may_say_nothing_else(theirs: KafkaSettings, name: str) -> None:
    with pytest.raises(NotPermitted):
        await publish(theirs, getattr(theirs.topics, name))


async def test_without_the_right_to_create_topics_the_sentence_says_so(theirs: KafkaSettings) -> None:
    async with Admin(theirs) as admin:
        with pytest.raises(SetupError, match=r"permissions .* create topic"):
            await admin.ensure_topics(theirs.topics.request_plans("new", 1))


async def test_an_answer_that_may_not_be_written_goes_to_results(
    ours: KafkaSettings, reply_topic: str
) -> None:
    """Or a caller could keep a worker's slots for ever."""
    producer = Producer(ours, source="test")
    await producer.start()
    head = RequestHead(id="r1", source="/t", reply=ReplyAddress(reply_topic))
    try:
        async with asyncio.timeout(20):
            reply = await Replies(
                producer, ReplyRules(ours.topics, ("replies.*",), "/workers/w", "echo")
            ).open(head, "1:w")
            await reply.chunk(b"a")
            await reply.finish(DONE)
            await Answering(producer, ours.topics, ("replies.*",)).answer(head, "echo", DONE, trusted=True)
    finally:
        await producer.stop()
    found = await results(ours)
    assert [each["ce_causationid"] for each in found] == [b"r1", b"r1"]
    assert all(b"may not be written to" in each["ce_replyrefused"] for each in found)


async def test_an_answer_whose_topic_is_deleted_meanwhile_goes_to_results(
    secure: SecureBroker, ours: KafkaSettings
) -> None:
    own = f"theirs-{ours.topic_prefix}replies"  # ours by its permissions, and no internal one
    async with Admin(ours) as admin:
        await admin.ensure_topics([TopicPlan(own, 1)])
        producer = Producer(ours, source="test")
        await producer.start()
        try:
            rules = ReplyRules(ours.topics, ("*.replies",), "/workers/w", "echo")
            head = RequestHead(id="r2", source="/t", reply=ReplyAddress(own))
            async with asyncio.timeout(60):
                reply = await Replies(producer, rules).open(head, "1:w")
                await admin._raw.delete_topics([own])
                await reply.finish(DONE)
        finally:
            await producer.stop()
    (found,) = await results(ours)
    assert found["ce_causationid"] == b"r2"
    assert b"gone" in found["ce_replyrefused"]
