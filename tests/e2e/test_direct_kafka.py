"""The second way in: any Kafka client publishes to a request topic."""

import asyncio
import json
import subprocess
import time
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from tests.parts import require

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.requests import COMPLETIONS
from headrace.contracts.states import State
from headrace.contracts.topics import Lane, TopicPlan, Topics
from headrace.kafka.admin import Admin
from headrace.settings import KafkaSettings

TOPICS = Topics()
REQUESTS = TOPICS.requests("echo", Lane.DEFAULT)
ANSWER_S = 30.0


def body(text, **more):
    return json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode()


@pytest.fixture
async def caller(stack):
    """A foreign client: plain aiokafka, a reply topic of its own."""
    caller = Caller(stack.kafka_bootstrap_servers)
    await caller.start()
    yield caller
    await caller.stop()


class Caller:
    def __init__(self, servers):
        self.servers = servers
        self.reply_topic = f"caller-{uuid.uuid4().hex[:8]}"

    async def start(self):
        settings = KafkaSettings(bootstrap_servers=self.servers, replication_factor=1, min_insync_replicas=1)
        async with Admin(settings) as admin:
            await admin.ensure_topics([TopicPlan(self.reply_topic, 3)])
        self.producer = AIOKafkaProducer(bootstrap_servers=self.servers)
        await self.producer.start()
        self.consumer = AIOKafkaConsumer(
            self.reply_topic,
            TOPICS.results,
            TOPICS.dead_letters,
            bootstrap_servers=self.servers,
            auto_offset_reset="latest",
        )
        await self.consumer.start()
        for partition in self.consumer.assignment():
            await self.consumer.position(partition)

    async def stop(self):
        await self.producer.stop()
        await self.consumer.stop()

    async def publish(self, value, headers=(), topic=REQUESTS):
        sent = await self.producer.send_and_wait(topic, value, headers=list(headers))
        return f"{sent.topic}-{sent.partition}-{sent.offset}"

    async def answers(self, request_id, topic=None):
        """All replies to the request, up to the final one."""
        found = []
        until_s = time.monotonic() + ANSWER_S
        while time.monotonic() < until_s:
            for batch in (await self.consumer.getmany(timeout_ms=200)).values():
                for record in batch:
                    told = dict(record.headers)
                    if told.get(h.CAUSATION_ID) == request_id.encode() and topic in (None, record.topic):
                        found.append(record)
                        if told[h.FINAL] == b"true":
                            return found
        pytest.fail(f"no final answer to {request_id}; got {found}")


def text_of(record):
    return json.loads(record.value)["choices"][0]["message"]["content"]


class TestKcat:
    def test_a_curl_body_with_reply_headers(self, stack, tmp_path):
        kcat = require("kcat", "kcat")
        servers = stack.kafka_bootstrap_servers
        topic = self.reply_topic(stack)
        command = [
            kcat,
            "-b",
            servers,
            "-P",
            "-t",
            REQUESTS,
            "-H",
            f"reply_to={topic}",
            "-H",
            "correlation_id=7",
        ]
        subprocess.run(command, input=body("from kcat"), check=True, timeout=30)
        read = [kcat, "-b", servers, "-C", "-t", topic, "-c", "1", "-o", "beginning", "-f", "%h|%s"]
        told, _, value = subprocess.check_output(read, timeout=30).decode().partition("|")
        assert "correlation_id=7" in told.split(",")
        assert "ce_type=headrace.inference.completed.v1" in told.split(",")
        assert json.loads(value)["choices"][0]["message"]["content"] == "from kcat"

    def test_a_curl_body_with_no_header_at_all(self, stack):
        kcat = require("kcat", "kcat")
        servers = stack.kafka_bootstrap_servers
        mark = uuid.uuid4().hex
        command = [kcat, "-b", servers, "-P", "-t", REQUESTS]
        subprocess.run(command, input=body(mark), check=True, timeout=30)
        until_s = time.monotonic() + ANSWER_S
        while time.monotonic() < until_s:
            read = [kcat, "-b", servers, "-C", "-t", TOPICS.results, "-e", "-o", "beginning", "-f", "%s\n"]
            if mark in subprocess.check_output(read, timeout=30, stderr=subprocess.DEVNULL).decode():
                return
        pytest.fail("the answer did not come to results")

    def reply_topic(self, stack):
        caller = Caller(stack.kafka_bootstrap_servers)

        async def make():
            await caller.start()
            await caller.stop()

        asyncio.run(make())
        return caller.reply_topic


@pytest.mark.parametrize(
    ("names", "correlation"),
    [
        (("ce_replytopic", "ce_replypartition", "ce_correlationid"), b"ce-1"),
        (("reply_to", None, "correlation_id"), b"faststream-1"),
        (("kafka_replyTopic", "kafka_replyPartition", "kafka_correlationId"), b"\x00\xff\x10spring"),
        (("REPLY_TOPIC", "REPLY_PARTITION", "REPLY_CORRELATION_ID"), b"smallrye-1"),
    ],
)
async def test_reply_headers_of_every_framework(caller, names, correlation):
    topic, partition, correlation_name = names
    headers = [(topic, caller.reply_topic.encode()), (correlation_name, correlation)]
    if partition is not None:
        number = b"2" if partition.startswith("ce_") else (2).to_bytes(4)
        headers.append((partition, number))
    request_id = await caller.publish(body("hello"), headers)
    (answer,) = await caller.answers(request_id)
    assert answer.topic == caller.reply_topic
    assert partition is None or answer.partition == 2
    assert dict(answer.headers)[correlation_name] == correlation
    assert text_of(answer) == "hello"


async def test_a_stream_arrives_in_order_and_whole(caller):
    headers = [("reply_to", caller.reply_topic.encode()), ("ce_id", b"stream-" + uuid.uuid4().hex.encode())]
    await caller.publish(body("one two three", stream=True), headers)
    records = await caller.answers(headers[1][1].decode())
    heads = [replies.read(dict(record.headers)) for record in records]
    assert [head.sequence for head in heads] == list(range(len(records)))
    chunks = [json.loads(record.value)["choices"][0]["delta"].get("content") or "" for record in records[:-1]]
    assert "".join(chunks) == "one two three" == text_of(records[-1])
    assert [head.is_final for head in heads] == [False] * (len(heads) - 1) + [True]


async def test_completions_by_header(caller):
    headers = [("reply_to", caller.reply_topic.encode()), (h.API_PATH, COMPLETIONS.encode())]
    request_id = await caller.publish(b'{"prompt": "say it"}', headers)
    (answer,) = await caller.answers(request_id)
    assert json.loads(answer.value)["choices"][0]["text"] == "say it"


@pytest.mark.parametrize("lane", list(Lane))
async def test_every_lane_is_served(caller, lane):
    request_id = await caller.publish(
        body(lane.value), [("reply_to", caller.reply_topic.encode())], TOPICS.requests("echo", lane)
    )
    (answer,) = await caller.answers(request_id)
    assert text_of(answer) == lane.value


async def test_what_cannot_be_read_is_answered_and_dead_lettered(caller):
    request_id = await caller.publish(b"{broken", [("reply_to", caller.reply_topic.encode())])
    (answer,) = await caller.answers(request_id)
    head = replies.read(dict(answer.headers))
    assert (head.state, head.http_status) == (State.FAILED, 400)
    assert json.loads(answer.value)["error"]["code"] == "malformed_body"


async def test_wrong_parameters_are_answered_where_asked(caller):
    request_id = await caller.publish(
        body("x", temperature="hot"), [("reply_to", caller.reply_topic.encode())]
    )
    (answer,) = await caller.answers(request_id)
    error = json.loads(answer.value)["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "temperature")


@pytest.mark.parametrize("topic", [b"headrace.models", b"headrace.requests.echo.default", b"no-such-topic"])
async def test_a_reply_topic_that_may_not_be_written_falls_back_to_results(caller, topic):
    request_id = await caller.publish(body("x"), [("reply_to", topic)])
    (answer,) = await caller.answers(request_id)
    assert answer.topic == TOPICS.results
    assert topic in dict(answer.headers)[h.REPLY_REFUSED]


async def test_a_request_that_expired_in_the_queue_is_told_so(caller):
    headers = [("reply_to", caller.reply_topic.encode()), (h.EXPIRY_TIME, b"2020-01-01T00:00:00Z")]
    request_id = await caller.publish(body("too late"), headers)
    (answer,) = await caller.answers(request_id)
    head = replies.read(dict(answer.headers))
    assert (head.state, head.http_status) == (State.EXPIRED, 504)


async def test_a_foreign_transaction_that_was_aborted_is_not_served(caller, stack):
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.kafka_bootstrap_servers, transactional_id=f"tx-{uuid.uuid4().hex}"
    )
    await producer.start()
    aborted, committed = f"a-{uuid.uuid4().hex}", f"c-{uuid.uuid4().hex}"
    reply = ("reply_to", caller.reply_topic.encode())
    await producer.begin_transaction()
    await producer.send_and_wait(REQUESTS, body("no"), headers=[reply, ("ce_id", aborted.encode())])
    await producer.abort_transaction()
    async with producer.transaction():
        await producer.send_and_wait(REQUESTS, body("yes"), headers=[reply, ("ce_id", committed.encode())])
    await producer.stop()
    seen = await caller.answers(committed)
    assert text_of(seen[-1]) == "yes"
    polled = await caller.consumer.getmany(timeout_ms=1000)
    assert aborted.encode() not in {dict(r.headers).get(h.CAUSATION_ID) for b in polled.values() for r in b}
