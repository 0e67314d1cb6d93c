"""Trains model.onnx: logistic regression on words and pairs of words, by numpy; needs the package onnx.

    python functions/sentiment/train.py [MODEL]

A fifth of the sentences is held out: the model never sees it, and its accuracy there is what README.md says.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from features import MOST, PLACES, places
from onnx import ModelProto, TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent
EVERY = 5  # which sentences are held out
STEPS = 2000
RATE = 0.5
DECAY = 1e-3

Array = npt.NDArray[Any]


def sentences() -> list[tuple[str, bool]]:
    """All, each with whether it is positive."""
    found = []
    for name, positive in (("positive.txt", True), ("negative.txt", False)):
        found += [(line, positive) for line in (FOLDER / name).read_text().splitlines()]
    return found


def held_out(number: int, fold: int = 0) -> bool:
    """Whether the `number`th sentence is kept from training."""
    return number % EVERY == fold


def train(examples: list[tuple[str, bool]]) -> tuple[Array, float]:
    """Weights of the places, and what is added to them."""
    x = np.zeros((len(examples), PLACES))
    for row, (text, _) in enumerate(examples):
        for place in places(text):
            x[row, place] += 1
    x[:, 0] = 0
    x /= np.sqrt(np.maximum(x.sum(axis=1, keepdims=True), 1))
    y = np.array([positive for _, positive in examples], dtype=float)
    # The weights are a sum of sentences: how much of each is enough, and there are fewer of them than places.
    alike, share, bias = x @ x.T, np.zeros(len(y)), 0.0
    for _ in range(STEPS):
        wrong = 1 / (1 + np.exp(-(alike @ share + bias))) - y
        share -= RATE * (wrong / len(y) + DECAY * share)
        bias -= RATE * wrong.mean()
    return x.T @ share, float(bias)


def accuracy(examples: list[tuple[str, bool]], weights: Array, bias: float) -> float:
    """The share that is told right."""
    right = 0
    for text, positive in examples:
        found = [place for place in places(text) if place]
        score = sum(weights[place] for place in found) / max(len(found), 1) ** 0.5 + bias
        right += (score > 0) == positive
    return right / len(examples)


def export(weights: Array, bias: float) -> ModelProto:
    """The same computation in ONNX: places in, the chance that the text is positive out."""
    parts = {
        "table": weights.astype(np.float32),
        "bias": np.float32(bias),
        "axis": np.array([1], dtype=np.int64),
        "zero": np.int64(0),
        "one": np.float32(1),
    }
    nodes = [
        helper.make_node("Gather", ["table", "places"], ["found"]),
        helper.make_node("ReduceSum", ["found", "axis"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["places", "zero"], ["is_word"]),
        helper.make_node("Cast", ["is_word"], ["words"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["words", "axis"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "one"], ["at_least_one"]),
        helper.make_node("Sqrt", ["at_least_one"], ["length"]),
        helper.make_node("Div", ["sum", "length"], ["mean"]),
        helper.make_node("Add", ["mean", "bias"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["positive"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sentiment",
        [helper.make_tensor_value_info("places", TensorProto.INT64, ["texts", MOST])],
        [helper.make_tensor_value_info("positive", TensorProto.FLOAT, ["texts"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in parts.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, producer_name="headrace", ir_version=8, opset_imports=opset)


def main(arguments: list[str]) -> None:
    """The command."""
    every = sentences()
    scores = []
    for fold in range(EVERY):
        weights, bias = train([each for number, each in enumerate(every) if not held_out(number, fold)])
        kept = [each for number, each in enumerate(every) if held_out(number, fold)]
        scores.append(accuracy(kept, weights, bias))
        if fold == 0:
            path = Path(arguments[0]) if arguments else FOLDER / "model.onnx"
            path.write_bytes(export(weights, bias).SerializeToString(deterministic=True))
    print(f"held out: {scores[0]:.0%}; each fifth in turn: {np.mean(scores):.0%}")  # noqa: T201  # a command


if __name__ == "__main__":
    main(sys.argv[1:])
