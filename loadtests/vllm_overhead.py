"""`python -m loadtests.vllm_overhead FOLDER`: tokens a second through engine vllm, and from vLLM directly.

One AsyncLLM serves both arms, in turns; each turn is `REQUESTS` completions of `TOKENS` tokens, `CONCURRENCY`
at once. What the engine adds is the check of the body, vLLM's own serving classes, and JSON. Runs where vLLM
is installed (`make test-vllm`), on a folder of a model; SmolLM2 is in the cache after those tests.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import orjson
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from headrace.contracts import bodies
from headrace.contracts.manifest import parse
from headrace.contracts.requests import COMPLETIONS
from headrace.core.ports import Call, Partial
from headrace.core.ports import Final as Whole
from headrace.engines import catalog

CONCURRENCY: Final = 16
REQUESTS: Final = 32
TOKENS: Final = 64
TURNS: Final = 5
ENGINE: Final = {
    "kind": "vllm",
    "args": {
        "max_num_seqs": CONCURRENCY,
        "context_tokens": 512,
        "dtype": "float32",
        "enforce_eager": True,
        "kv_cache_gib": 0.5,
        "prefix_caching": False,
    },
}
Arm = Callable[[int], Awaitable[int]]
"""Runs one request; returns how many tokens it gave."""


def prompt(number: int) -> str:
    """What is asked; no two alike."""
    return f"Story number {number}. Once upon a time there was"


def request(number: int, tokens: int) -> dict[str, Any]:
    """The body that asks for it."""
    return {"prompt": prompt(number), "max_tokens": tokens, "temperature": 0, "ignore_eos": True}


def direct(llm: Any, *, stream: bool) -> Arm:
    """vLLM without us."""
    kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY

    async def run(number: int) -> int:
        params = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True, output_kind=kind)
        answers: AsyncIterator[Any] = llm.generate(prompt(number), params, f"direct-{time.monotonic_ns()}")
        return sum([len(answer.outputs[0].token_ids) async for answer in answers])

    return run


def through(engine: Any, *, stream: bool) -> Arm:
    """The engine's port, as a worker calls it."""

    async def run(number: int) -> int:
        body = request(number, TOKENS)
        value = orjson.dumps(body | {"stream": stream})
        call = Call(f"req_{number}", "chat", COMPLETIONS, value, bodies.parse(COMPLETIONS, value), 0)
        tokens = 0
        async with aclosing(engine.run(call)) as events:
            async for event in events:
                assert isinstance(event, Partial | Whole)
                if isinstance(event, Whole):
                    tokens = orjson.loads(event.value)["usage"]["completion_tokens"]
        return tokens

    return run


async def turn(arm: Arm) -> float:
    """Tokens a second of one turn."""
    room = asyncio.Semaphore(CONCURRENCY)

    async def one(number: int) -> int:
        async with room:
            return await arm(number)

    begun_s = time.monotonic()
    tokens = await asyncio.gather(*(one(number) for number in range(REQUESTS)))
    assert sum(tokens) == REQUESTS * TOKENS
    return sum(tokens) / (time.monotonic() - begun_s)


def create(folder: Path) -> Any:
    """The engine, not started."""
    manifest = parse({"name": "chat", "engine": ENGINE, "model": {"source": "file:."}}, where="here")
    return catalog.create(manifest, folder)


async def measure(folder: Path) -> None:
    """All turns of all arms; prints the medians."""
    engine = create(folder)
    await engine.start()
    arms: dict[str, Arm] = {}
    for stream in (False, True):
        kind = "streamed" if stream else "whole"
        arms[f"vLLM directly, {kind}"] = direct(engine._core.llm, stream=stream)
        arms[f"engine's port, {kind}"] = through(engine, stream=stream)
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        await turn(arm)  # warms up
    for _ in range(TURNS):
        for name, arm in arms.items():
            rates[name].append(await turn(arm))
    for name, found in rates.items():
        spread = f"{min(found):.0f} to {max(found):.0f}"
        print(f"{name:26} {statistics.median(found):6.1f} tokens/s ({spread})")
    await engine.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    asyncio.run(measure(parser.parse_args().folder))
