"""`python -m loadtests.vllm_kafka FOLDER`: vLLM behind a real Kafka, beside an AsyncLLM in this process.

Two copies of the model, in turns: one in a worker of an embedded stack, asked by a Kafka client; one here,
asked by `generate`. First tokens a second with `CONCURRENCY` at once, then the time to the first token of one
request after another. While one computes the other is idle. Answers are greedy, so both must say the same.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Final

import orjson
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from headrace.contracts.requests import COMPLETIONS
from headrace.contracts.topics import Lane, Topics
from loadtests.answers import Question
from loadtests.arms import Load, all_at_once
from loadtests.kafka_client import KafkaClient, Route, create_topics
from loadtests.stack import Target, embedded
from loadtests.vllm_overhead import CONCURRENCY, ENGINE, REQUESTS, TOKENS, TURNS, create, prompt, request

SINGLES: Final = 25
_FEW_TOKENS: Final = 4
_RATE_GOAL: Final = 0.95
_FIRST_GOAL_MS: Final = 10.0


class Direct:
    """An AsyncLLM here."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    async def turn(self) -> tuple[float, list[str]]:
        """Tokens a second of one turn, and what was said."""
        room = asyncio.Semaphore(CONCURRENCY)

        async def one(number: int) -> str:
            async with room:
                return await self._ask(number, TOKENS, RequestOutputKind.FINAL_ONLY)

        begun_s = time.perf_counter()
        texts = await asyncio.gather(*(one(number) for number in range(REQUESTS)))
        return REQUESTS * TOKENS / (time.perf_counter() - begun_s), list(texts)

    async def first_s(self, number: int) -> float:
        """Time to the first token."""
        begun_s = time.perf_counter()
        found: list[float] = []
        await self._ask(number, _FEW_TOKENS, RequestOutputKind.DELTA, found)
        return found[0] - begun_s

    async def _ask(
        self, number: int, tokens: int, kind: RequestOutputKind, at_s: list[float] | None = None
    ) -> str:
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, output_kind=kind)
        text = ""
        async for answer in self._llm.generate(prompt(number), params, uuid.uuid4().hex):
            text += answer.outputs[0].text
            if at_s is not None:
                at_s.append(time.perf_counter())
        return text


class Through:
    """A worker behind Kafka."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    async def turn(self) -> tuple[float, list[str]]:
        """Tokens a second of one turn, and what was said."""
        asked = [_question(number, TOKENS) for number in range(REQUESTS)]
        run = await all_at_once(asked, [self._client.ask] * CONCURRENCY, Load(CONCURRENCY).limit_s)
        said = {answer.question.id: orjson.loads(answer.body or b"{}") for answer in run.answers}
        found = [said[question.id] for question in asked]
        assert all(each["usage"]["completion_tokens"] == TOKENS for each in found)
        return REQUESTS * TOKENS / run.wall_s, [each["choices"][0]["text"] for each in found]

    async def first_s(self, number: int) -> float:
        """Time to the first chunk."""
        answer = await self._client.ask(_question(number, _FEW_TOKENS, stream=True))
        return answer.first_s


def _question(number: int, tokens: int, *, stream: bool = False) -> Question:
    body = request(number, tokens) | {"stream": stream}
    return Question(uuid.uuid4().hex, prompt(number), orjson.dumps(body))


async def measure(folder: Path) -> None:
    """Start both, measure, stop."""
    with tempfile.TemporaryDirectory(prefix="headrace-vllm-") as place:
        manifest = {
            "schema": "headrace.function/v1",
            "name": "chat",
            "serves": [COMPLETIONS],  # what a record without a path is for
            "engine": ENGINE,
            "model": {"source": f"file:{folder}"},
        }
        (Path(place) / "function.yaml").write_bytes(orjson.dumps(manifest))  # JSON is YAML, too
        async with embedded(Path(place), "chat") as target:
            engine = create(folder)
            await engine.start()
            try:
                await _compare(target, engine)
            finally:
                await engine.stop()


async def _compare(target: Target, engine: Any) -> None:
    replies = f"loadtests.{uuid.uuid4().hex[:8]}.replies"
    await create_topics(target.bootstrap_servers, {replies: 1})
    topic = Topics().requests(target.model, Lane.DEFAULT)
    client = KafkaClient(Route(target.bootstrap_servers, topic, replies))
    await client.start()
    try:
        await _report(Direct(engine._core.llm), Through(client))
    finally:
        await client.stop()


async def _report(direct: Direct, through: Through) -> None:
    for arm in (direct, through):
        await arm.turn()  # warms up
    ratios, others = [], 0
    for number in range(TURNS):
        bare_rate, bare = await direct.turn()
        our_rate, ours = await through.turn()
        ratios.append(our_rate / bare_rate)
        others += sum(one != other for one, other in zip(bare, ours, strict=True))
        sys.stderr.write(f"turn {number + 1}: {bare_rate:.1f} and {our_rate:.1f} tokens/s\n")
    ratio = statistics.median(ratios)
    print(
        f"{CONCURRENCY} at once, {TOKENS} tokens each: through Kafka {ratio:.3f} of AsyncLLM's tokens/s "
        f"({min(ratios):.3f} to {max(ratios):.3f}); goal >= {_RATE_GOAL}: {_verdict(ratio >= _RATE_GOAL)}; "
        f"{others} of {TURNS * REQUESTS} answers differ"
    )
    firsts = [(await direct.first_s(number), await through.first_s(number)) for number in range(SINGLES)]
    bare_ms, our_ms = (statistics.median(arm) * 1000 for arm in zip(*firsts, strict=True))
    print(
        f"one at a time, to the first token, median of {SINGLES}: {bare_ms:.1f} ms and {our_ms:.1f} ms; "
        f"goal <= {_FIRST_GOAL_MS:g} ms more: {_verdict(our_ms - bare_ms <= _FIRST_GOAL_MS)}"
    )


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    asyncio.run(measure(parser.parse_args().folder.resolve()))
