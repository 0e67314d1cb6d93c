"""What the scaler sees on a whole stack: deadlines, sizes, what is tried again, what is unaccounted for."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from tests.elastic import Elastic
from tests.stack import Stack, wait_until

from headrace.contracts import requests
from headrace.contracts.decisions import Decision
from headrace.contracts.requests import RequestHead
from headrace.contracts.topics import Lane, Topics
from headrace.core.ports import Outgoing
from headrace.kafka.producer import Producer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_TOPICS = Topics()
_HURRY = "min_workers: 0, idle_s: 3"
_FUNCTIONS = {
    # A request takes two seconds, four beside one another as long as one: half a second of a worker.
    "patient": f"""
engine:
  kind: echo
  args: {{slots: 4, token_ms: 100, step_batching: false, output_tokens: 20}}
scaling: {{{_HURRY}, max_workers: 4, drain_target_s: 1000, work_s: 0.5}}
""",
    # Four at once: a short message takes 0.3 seconds, a long one 1.5.
    "reader": f"""
engine:
  kind: echo
  args: {{slots: 4, token_ms: 20, step_batching: false, output_tokens: 10, prefill_ms_per_token: 10}}
scaling: {{{_HURRY}, max_workers: 4, drain_target_s: 8}}
""",
    "moody": f"""
engine: {{kind: echo, args: {{fail_on: never}}}}
retry: {{max_attempts: 2, delays: [5s]}}
scaling: {{{_HURRY}, max_workers: 1}}
""",
    "costly": f"""
engine:
  kind: echo
  args: {{slots: 4, token_ms: 100, step_batching: false, output_tokens: 10}}
scaling: {{{_HURRY}, max_workers: 2, drain_target_s: 5, work_s: 0.25, gpus: 2}}
""",
    "slow": """
engine: {kind: echo, args: {slots: 2, token_ms: 100, output_tokens: 250}}
scaling: {min_workers: 0, max_workers: 1, idle_s: 3}
""",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose models have no workers, and whose scaler is in a hurry."""
    folder = tmp_path_factory.mktemp("observing")
    for name, text in _FUNCTIONS.items():
        (folder / name).mkdir()
        (folder / name / "function.yaml").write_text(f"schema: headrace.function/v1\nname: {name}{text}")
    hurry = {
        "HEADRACE_SCALER_UP_STEP_S": "1",
        "HEADRACE_SCALER_DOWN_WINDOW_S": "2",
        "HEADRACE_SCALER_DOWN_STEP_S": "1",
        "HEADRACE_SCALER_MAX_GPUS": "3",
    }
    stack = Stack(folder, functions=[folder / name for name in _FUNCTIONS], settings=hurry)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def publish(elastic: Elastic, texts: Sequence[str], within_s: float | None = None) -> set[str]:
    """Send messages as a direct publisher does; gives the requests' ids."""

    async def send() -> set[str]:
        producer = Producer(elastic.kafka, source="test")
        await producer.start()
        names = {f"test-{uuid.uuid4().hex}": text for text in texts}
        end_s = None if within_s is None else time.time() + within_s
        try:
            for name, text in names.items():
                body = orjson.dumps({"model": elastic.model, "messages": [{"role": "user", "content": text}]})
                headers = requests.write(RequestHead(id=name, source="/test", expires_at_s=end_s))
                lane = _TOPICS.requests(elastic.model, Lane.DEFAULT)
                await (await producer.send(Outgoing(lane, body, headers=headers)))
        finally:
            await producer.stop()
        return set(names)

    return asyncio.run(send())


def served(elastic: Elastic, texts: Sequence[str], within_s: float | None = None) -> list[Decision]:
    """Decisions about the model from when these are published until they are answered and nobody works."""
    before = len(elastic.decisions())
    names = publish(elastic, texts, within_s)
    elastic.until_done(names)
    wait_until(lambda: elastic.decisions()[-1].target == 0, "no worker", 60)
    seen = elastic.decisions()[before:]
    assert {each.unaccounted for each in seen} == {0}, "however workers come and go"
    return seen


def test_what_is_due_starts_workers_that_the_drain_target_would_not(stack: Stack) -> None:
    patient = Elastic(stack, "patient")
    without = served(patient, ["hello"] * 24)
    assert max(each.target for each in without) == 1, "a thousand seconds are enough for one"

    due = served(patient, ["hello"] * 100, within_s=30)

    assert max(each.target for each in due) >= 3
    assert any("s of work are due in" in each.reason for each in due)
    assert max(each.oldest_s or 0 for each in due) > 1


def test_long_prompts_are_more_work_than_as_many_short_ones(stack: Stack) -> None:
    reader = Elastic(stack, "reader")
    short, long = "a word " * 5, "a word " * 65
    served(reader, [short, long, short] * 12)  # to learn from

    few = served(reader, [short] * 60)
    many = served(reader, [long] * 60)

    def of_one(seen: Sequence[Decision]) -> list[tuple[float, float]]:
        """Seconds and tokens of one that waits, as long as many do; until the first look the mean of all."""
        return [
            ((one.backlog_s or 0) / one.waiting, one.backlog_tokens / one.waiting)
            for one in seen
            if one.waiting > 20
        ]

    assert max(of_one(many))[0] > 2 * min(of_one(few))[0]
    assert max(tokens for _, tokens in of_one(many)) > 3 * min(tokens for _, tokens in of_one(few))
    assert max(one.target for one in many) > max(one.target for one in few)


def test_what_is_tried_again_and_what_is_set_aside_are_accounted_for(stack: Stack) -> None:
    moody = Elastic(stack, "moody")
    seen = served(moody, ["now or never", "always"])

    assert max(each.retrying for each in seen) == 1
    assert seen[-1].retrying == 0
    assert len(moody.read(_TOPICS.dead_letters)) == 1


def test_a_new_version_takes_over_within_the_budget_of_gpus(stack: Stack, tmp_path: Path) -> None:
    costly = Elastic(stack, "costly")
    names = publish(costly, ["hello"] * 60)
    wait_until(lambda: costly.decisions()[-1].warm == 1, "a worker", 60)
    text = f"schema: headrace.function/v1\nname: costly\ndescription: anew{_FUNCTIONS['costly']}"
    (tmp_path / "function.yaml").write_text(text)

    done = stack.run("deploy", str(tmp_path))

    assert done.returncode == 0, done.stderr
    costly.until_done(names)
    seen = costly.decisions()
    assert max(each.warm + each.starting + each.draining for each in seen) == 1, "one takes two GPUs of three"
    assert any("GPU budget: 1 of 2" in each.reason for each in seen)
    assert len({each.version for each in seen if each.warm}) == 2
    assert any("makes room for version" in action for each in seen for action in each.actions)


def test_requests_of_a_worker_that_is_not_heard_are_unaccounted_for(stack: Stack) -> None:
    slow = Elastic(stack, "slow")
    names = publish(slow, ["hello"] * 2)

    def holders() -> list[int]:
        return [each["pid"] for each in slow.workers().values() if each["in_flight"] == 2]

    wait_until(lambda: len(holders()) == 1, "both to run", 60)
    (pid,) = holders()
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: slow.decisions()[-1].unaccounted == 2, "both to be missed", 40)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: slow.decisions()[-1].unaccounted == 0, "both to be found", 40)
    slow.until_done(names)


def test_commits_that_somebody_takes_back_are_told(stack: Stack) -> None:
    patient = Elastic(stack, "patient")
    served(patient, ["hello"] * 8)
    assert patient.decisions()[-1].unaccounted == 0
    (row,) = (
        row
        for row in orjson.loads(stack.run("backlog", "patient", "--json").stdout)
        if row["lane"] == "default"
    )
    topic = _TOPICS.requests("patient", Lane.DEFAULT)
    parts = [TopicPartition(topic, each["partition"]) for each in row["partitions"]]

    async def take_back() -> int:
        """One request of each partition that had any."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=stack.kafka_bootstrap_servers,
            group_id=_TOPICS.group("patient"),
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            consumer.assign(parts)
            known = {part: await consumer.committed(part) or 0 for part in parts}
            back = {part: offset - 1 for part, offset in known.items() if offset}
            await consumer.commit(back)
            return len(back)
        finally:
            await consumer.stop()

    before = len(patient.decisions())
    number = asyncio.run(take_back())

    assert number > 0
    # At least some: two counts that lag behind one another say no more than the least.
    wait_until(
        lambda: any(0 < each.unaccounted <= number for each in patient.decisions()[before:]),
        "them to be told",
    )
