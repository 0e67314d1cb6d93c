"""Unmodified foreign publishers against a whole running stack."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from tests.e2e.clients.environments import environment
from tests.stack import Stack

from headrace.contracts.topics import TopicPlan
from headrace.kafka.admin import Admin
from headrace.settings import KafkaSettings

SCRIPT: Final = Path(__file__).with_name("publisher_checks.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def test_faststream_and_cloudevents_ask_and_are_answered(stack: Stack) -> None:
    settings = KafkaSettings(
        bootstrap_servers=stack.kafka_bootstrap_servers, replication_factor=1, min_insync_replicas=1
    )
    topic = "publishers.replies"
    async with Admin(settings) as admin:
        await admin.ensure_topics([TopicPlan(topic, 1)])
    done = subprocess.run(
        [str(environment("publishers")), str(SCRIPT), stack.kafka_bootstrap_servers, "echo", topic],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found == {
        "faststream": {"correlation_id": "order-7", "text": "by faststream"},
        "cloudevents": {
            "type": "headrace.inference.completed.v1",
            "correlation_id": "c-7",
            "text": "by cloudevents",
        },
    }
