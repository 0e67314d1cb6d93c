"""`headrace backlog` on a running stack: what is published and not finished, until nothing is."""

import asyncio
import json
import signal
import subprocess
import sys
import uuid

import pytest
from tests.stack import Stack, wait_until

from headrace.contracts import requests
from headrace.contracts.requests import RequestHead
from headrace.contracts.topics import Lane
from headrace.core.ports import Outgoing
from headrace.kafka.producer import Producer
from headrace.settings import KafkaSettings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

SHORT = 20
LONG_WORDS = 620
FUNCTION = """
schema: headrace.function/v1
name: slow
engine: {kind: echo, args: {slots: 2, token_ms: 50}}
scaling: {min_workers: 1, max_workers: 1}
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backlog")
    function = folder / "slow"
    function.mkdir()
    (function / "function.yaml").write_text(FUNCTION)
    stack = Stack(folder, functions=[function])
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def row(stack, *arguments):
    done = stack.run("backlog", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return next(row for row in json.loads(done.stdout) if (row["model"], row["lane"]) == ("slow", "default"))


def test_it_is_what_was_published_less_what_is_finished(slow):
    """One request runs for half a minute; those behind it finish, and count as lag only."""
    asyncio.run(publish(slow, [LONG_WORDS, *([5] * SHORT)]))
    told = []

    def all_but_the_long_one():
        told.append(row(slow))
        return told[-1]["backlog"] == 1

    wait_until(all_but_the_long_one, "the short requests to be finished")
    assert told[-1]["lag"] == SHORT + 1
    counts = [found["backlog"] for found in told]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] <= SHORT + 1
    wait_until(lambda: row(slow, "slow")["backlog"] == 0, "the long request to be finished")
    assert row(slow, "slow")["lag"] == 0


async def publish(stack, words):
    """All into one partition, in this order."""
    kafka = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    producer = Producer(kafka, source="backlog")
    await producer.start()
    topic = kafka.topics.requests("slow", Lane.DEFAULT)
    for count in words:
        head = RequestHead(id=f"backlog-{uuid.uuid4().hex}", source="/backlog")
        body = {"model": "slow", "messages": [{"role": "user", "content": "word " * count}]}
        out = Outgoing(topic, json.dumps(body).encode(), headers=requests.write(head), partition=0)
        await (await producer.send(out))
    await producer.stop()


def test_people_get_a_table(slow):
    lines = slow.run("backlog").stdout.splitlines()
    assert lines[0].split() == ["model", "lane", "backlog", "lag", "partitions"]
    assert [line.split()[:2] for line in lines[1:]] == [["slow", lane] for lane in Lane]


def test_an_unknown_model_is_one_sentence(slow):
    done = slow.run("backlog", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("headrace: There is no model 'nobody'; `headrace models` lists what is deployed\n")


def test_watched_it_is_told_again_and_again_until_told_to_stop(slow):
    command = [sys.executable, "-m", "headrace", "backlog", "slow", "--watch", "--json"]
    watching = subprocess.Popen(
        [*command, "--data-dir", str(slow.data_dir)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        told = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=30)
    finally:
        watching.kill()
    assert [{row["model"] for row in rows} for rows in told] == [{"slow"}, {"slow"}]
    assert (watching.returncode, said) == (0, b"")
