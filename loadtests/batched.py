"""`python -m loadtests.batched`: how much of a batched engine's own rate arrives.

Engine `echo` plays a batched LLM: 32 slots that advance together, ten steps of 20 ms for each answer, so at
most 160 requests a second. With twice as many at once as there are slots, whatever is less was lost between
one batch and the next.
"""

import argparse
import logging
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Final

import uvloop

from headrace.contracts.topics import Lane, Topics
from loadtests.answers import Shape, questions, response_text
from loadtests.arms import KafkaArm, Load, Run
from loadtests.kafka_client import KafkaClient, Route, create_topics
from loadtests.measures import median
from loadtests.stack import StackError, Target, embedded

SLOTS: Final = 32
STEPS: Final = 10
STEP_MS: Final = 20
IDEAL_PER_S: Final = SLOTS / (STEPS * STEP_MS / 1000)
GOAL: Final = 0.97
_CONCURRENCY: Final = 64
_FUNCTION: Final = f"""
schema: headrace.function/v1
name: echo
engine: {{kind: echo, args: {{slots: {SLOTS}, token_ms: {STEP_MS}, output_tokens: {STEPS}}}}}
"""


async def measure(rounds: int, requests: int) -> bool:
    """Start, measure, stop; whether every answer was right."""
    with tempfile.TemporaryDirectory(prefix="headrace-batched-") as folder:
        (Path(folder) / "function.yaml").write_text(_FUNCTION)  # nothing else runs yet
        async with embedded(Path(folder)) as target:
            return await _against(target, rounds, requests)


async def _against(target: Target, rounds: int, requests: int) -> bool:
    replies = f"loadtests.{uuid.uuid4().hex[:8]}.replies"
    await create_topics(target.bootstrap_servers, {replies: 1})
    topic = Topics().requests(target.model, Lane.DEFAULT)
    client = KafkaClient(Route(target.bootstrap_servers, topic, replies))
    await client.start()
    arm = KafkaArm("headrace kafka", client, Shape(target.model, response_text))
    shares, wrong = [], 0
    try:
        for number in range(rounds + 1):
            count = requests if number else 2 * _CONCURRENCY
            run = await arm.run(questions(count, arm.shape), Load(_CONCURRENCY))
            wrong += count - _right(run)
            if number:
                shares.append(count / run.wall_s / IDEAL_PER_S)
                sys.stderr.write(f"round {number}: {shares[-1] * IDEAL_PER_S:.1f} requests/s\n")
    finally:
        await client.stop()
    share = median(shares)
    verdict = "met" if share >= GOAL else "MISSED"
    sys.stdout.write(
        f"batched: {SLOTS} slots, {STEPS} steps of {STEP_MS} ms, {_CONCURRENCY} at once: {share:.3f} of the "
        f"ideal {IDEAL_PER_S:.0f} requests/s (rounds {min(shares):.3f} to {max(shares):.3f}); "
        f"goal >= {GOAL}: {verdict}; {wrong} wrong or lost\n"
    )
    return not wrong


def _right(run: Run) -> int:
    """An answer has as many words as there are steps; the first of them is the question's own."""
    found = [(each.question.id, response_text(each.body).split()) for each in run.answers if each.body]
    return sum(len(words) == STEPS and words[0] == id_ for id_, words in found)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.batched", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1600, help="in a round")
    options = parser.parse_args()
    logging.basicConfig(level="ERROR")
    try:
        return 0 if uvloop.run(measure(options.rounds, options.requests)) else 1
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
