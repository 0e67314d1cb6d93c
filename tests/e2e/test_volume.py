"""Two thousand requests, 64 at once: every answer belongs to its request, none is lost, none comes twice."""

import uuid
from typing import Final

import pytest
from loadtests.answers import Shape, judge, questions, response_text
from loadtests.arms import Arm, HttpArm, KafkaArm, Load
from loadtests.kafka_client import KafkaClient, Route, create_topics
from tests.stack import Stack

from headrace.contracts.topics import Lane, Topics

COUNT: Final = 2000
LOAD: Final = Load(concurrency=64, limit_s=90.0)
SHAPE: Final = Shape("echo", response_text)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_by_http(stack: Stack) -> None:
    await ask_them_all(HttpArm("http", stack.http_url, SHAPE))


async def test_by_direct_publish(stack: Stack) -> None:
    servers = stack.kafka_bootstrap_servers
    replies = f"test-volume-{uuid.uuid4().hex[:8]}.replies"
    await create_topics(servers, {replies: 2})
    client = KafkaClient(Route(servers, Topics().requests("echo", Lane.DEFAULT), replies))
    try:
        await client.start()
        await ask_them_all(KafkaArm("kafka", client, SHAPE))
    finally:
        await client.stop()


async def ask_them_all(arm: Arm) -> None:
    asked = questions(COUNT, SHAPE)

    run = await arm.run(asked, LOAD)

    verdict = judge(asked, run.answers, response_text)
    assert (verdict.right, verdict.wrong, verdict.lost, verdict.repeated) == (COUNT, 0, 0, 0), verdict.example
    assert run.repeated == 0
