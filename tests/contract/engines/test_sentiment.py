"""functions/sentiment: what it says, and that its model is what its script makes."""

import importlib.util
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import pytest_asyncio
from onnx import numpy_helper
from tests.contract.engines.conformance import ask, call

from headrace.contracts.requests import PREDICTIONS
from headrace.core.ports import Engine
from headrace.engines import catalog
from headrace.registry.manifest_file import read_manifest

FUNCTION = Path(__file__).parents[3] / "functions" / "sentiment"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    engine = catalog.create(read_manifest(FUNCTION), FUNCTION / "model.onnx", FUNCTION)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(FUNCTION))  # as when it is run
    spec = importlib.util.spec_from_file_location("train", FUNCTION / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("What an excellent, friendly place, I love it.", "positive"),
        ("A rude waiter and a terrible waste of money.", "negative"),
        ("The cake was delicious and fresh!", "positive"),
        ("An awful, useless thing. " * 100, "negative"),
    ],
)
async def test_it_tells_praise_from_complaint(engine: Engine, text: str, label: str) -> None:
    output = (await ask(engine, call(PREDICTIONS, input={"text": text}))).whole["output"]
    assert output["label"] == label
    assert 0.5 <= output["score"] <= 1


@pytest.mark.asyncio(loop_scope="module")
async def test_what_it_knows_no_word_of_has_a_label_too(engine: Engine) -> None:
    output = (await ask(engine, call(PREDICTIONS, input={"text": "…"}))).whole["output"]
    assert output["score"] == pytest.approx(0.5, abs=0.1)


def test_training_again_makes_the_same_model(script: ModuleType) -> None:
    every = script.sentences()
    weights, bias = script.train([each for at, each in enumerate(every) if not script.held_out(at)])
    made, kept = script.export(weights, bias), onnx.load(FUNCTION / "model.onnx")
    for ours, theirs in zip(made.graph.initializer, kept.graph.initializer, strict=True):
        np.testing.assert_allclose(numpy_helper.to_array(ours), numpy_helper.to_array(theirs), atol=1e-5)
    assert made.graph.node == kept.graph.node


def test_the_readme_tells_its_accuracy_on_what_it_never_saw(script: ModuleType) -> None:
    session = onnxruntime.InferenceSession(FUNCTION / "model.onnx")
    kept = [each for at, each in enumerate(script.sentences()) if script.held_out(at)]
    (scores,) = session.run(None, {"places": np.array([script.places(text) for text, _ in kept])})
    right = np.mean((scores > 0.5) == [positive for _, positive in kept])
    told = re.search(r"tells (\d+) % of the (\d+) right", (FUNCTION / "README.md").read_text())
    assert told is not None
    assert (int(told[1]), int(told[2])) == (round(100 * right), len(kept))
