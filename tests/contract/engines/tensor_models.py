"""Small models in ONNX, made where they are needed."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 7 - 0.5


def write(
    path: Path, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **parts: Any
) -> Path:
    """A model of these nodes; tensors are `(element type, shape)` by name."""

    def infos(tensors: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]

    initializers = [numpy_helper.from_array(value, name) for name, value in parts.items()]
    graph = helper.make_graph(nodes, "graph", infos(inputs), infos(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def linear(path: Path, rows: int | str = "rows") -> Path:
    """`y = x @ WEIGHTS`, for any number of rows."""
    return write(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, [rows, 4])},
        {"y": (TensorProto.FLOAT, [rows, 3])},
        w=WEIGHTS,
    )


def lookup(path: Path) -> Path:
    """`y = table[x]`, which fails on what is not in the table of four."""
    return write(
        path,
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        {"x": (TensorProto.INT64, ["rows"])},
        {"y": (TensorProto.FLOAT, ["rows"])},
        table=np.array([0.5, 1.5, 2.5, 3.5], dtype=np.float32),
    )


def total(path: Path) -> Path:
    """One number for all rows: its output has fewer rows than its input, though its file does not say so."""
    return write(
        path,
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)],
        {"x": (TensorProto.FLOAT, ["rows", 2])},
        {"y": (TensorProto.FLOAT, ["groups", 1])},
    )


def endless(path: Path) -> Path:
    """Turns `x` once for each of `times`; a thousand million take minutes."""
    step = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["a"], ["b"])],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["rows"]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, ["rows"]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["times"], ["most"], keepdims=0),
        helper.make_node("Loop", ["most", "", "x"], ["y"], body=step),
    ]
    inputs = {"x": (TensorProto.FLOAT, ["rows"]), "times": (TensorProto.INT64, ["rows"])}
    return write(path, nodes, inputs, {"y": (TensorProto.FLOAT, ["rows"])})


def every_datatype(path: Path) -> Path:
    """Gives back what it gets, in each datatype that the protocol has."""
    kinds = {
        "BOOL": TensorProto.BOOL,
        "UINT8": TensorProto.UINT8,
        "UINT16": TensorProto.UINT16,
        "UINT32": TensorProto.UINT32,
        "UINT64": TensorProto.UINT64,
        "INT8": TensorProto.INT8,
        "INT16": TensorProto.INT16,
        "INT32": TensorProto.INT32,
        "INT64": TensorProto.INT64,
        "FP16": TensorProto.FLOAT16,
        "FP32": TensorProto.FLOAT,
        "FP64": TensorProto.DOUBLE,
        "BYTES": TensorProto.STRING,
    }
    nodes = [helper.make_node("Identity", [name], [f"same_{name}"]) for name in kinds]
    inputs = {name: (kind, ["rows", 2]) for name, kind in kinds.items()}
    outputs = {f"same_{name}": (kind, ["rows", 2]) for name, kind in kinds.items()}
    return write(path, nodes, inputs, outputs)


def with_outside_weights(path: Path, location: str) -> Path:
    """A model whose weights it says to be in the file `location`."""
    linear(path)
    model = onnx.load(path)
    (weights,) = model.graph.initializer
    onnx.external_data_helper.set_external_data(weights, location)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    return path
