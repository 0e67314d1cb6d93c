"""Tensors by PyTorch: programs that `torch.export` has made, which need no code of the model's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import Field
from torch.fx import Interpreter, Node
from torch.utils import _pytree as pytree

from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.manifest import Manifest
from headrace.contracts.tensors import Datatype, Signature, TensorSpec
from headrace.engines.batching import Halt, Model
from headrace.engines.catalog import arguments
from headrace.engines.tensor_engine import BatchArgs, TensorEngine
from headrace.engines.tensors import ANY_LENGTH, Arrays

_DATATYPES: Final[Mapping[torch.dtype, Datatype]] = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.float32: "FP32",
    torch.float64: "FP64",
}


class TorchArgs(BatchArgs):
    """Arguments of the `torch` engine.

    threads: within one operation; 0 for torch's choice. device: `cpu`, or `cuda`, `cuda:1`, ….
    """

    threads: int = Field(default=0, ge=0, le=1024)
    device: str = Field(default="cpu", pattern=r"^[a-z]+(:[0-9]+)?$")


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    path: Path


class _Halted(Exception):
    """Nobody wants the answer any more."""


class _Run(Interpreter):  # type: ignore[misc]  # untyped where torch is not installed
    """One run of a program, operation by operation, so that it can be ended between two of them."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.is_halted = False

    def run_node(self, n: Node) -> Any:
        if self.is_halted:
            raise _Halted
        return super().run_node(n)


class TorchModel:
    """Fills `engines.batching.Model`."""

    def __init__(self, program: Any, source: _Source, device: str) -> None:
        # Its guards would refuse lengths that it was not exported with, where it can do them all the same.
        self._module = program.module(check_guards=False)
        self._device = torch.device(device)
        self._signature = _signature(program, source.name)

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def run(self, arrays: Arrays, halt: Halt) -> Arrays:
        """Compute."""
        run = _Run(self._module)
        halt.on(lambda: setattr(run, "is_halted", True))
        inputs = [torch.from_numpy(arrays[spec.name]).to(self._device) for spec in self._signature.inputs]
        try:
            with torch.inference_mode():
                found = run.run(*inputs, enable_io_processing=False)
        except _Halted:
            return {}
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidRequest(
                f"The model cannot be run on these inputs: {reason}", param="inputs"
            ) from None
        names = [spec.name for spec in self._signature.outputs]
        return {name: each.cpu().numpy() for name, each in zip(names, found, strict=True)}


class TorchEngine(TensorEngine):
    """Fills `core.ports.Engine`: tensors in, tensors out."""

    def __init__(self, args: TorchArgs, source: _Source) -> None:
        super().__init__(args)
        self._torch_args = args
        self._source = source

    def load(self) -> Model:
        """Load the program.

        Raises:
            SetupError: it cannot be loaded, or its inputs or outputs are no plain tensors.
        """
        path, device = _file(self._source), self._torch_args.device
        if self._torch_args.threads:
            torch.set_num_threads(self._torch_args.threads)
        # It would load parts of a file as pickles, which are programs, and takes this from nowhere else.
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # noqa: TID251  # theirs, not ours
        try:
            program = torch.export.load(path)
            if device != "cpu":
                program = torch.export.passes.move_to_device_pass(program, device)
        except Exception as error:  # noqa: BLE001  # zip, JSON and torch errors, in many classes
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise SetupError(f"Function '{self._source.name}': torch cannot load {path}: {reason}") from None
        return TorchModel(program, self._source, device)


def create(manifest: Manifest, model_path: Path | None) -> TorchEngine:
    """The engine for a manifest.

    Raises:
        SetupError: the manifest names no model, or its arguments are wrong.
    """
    if model_path is None:
        raise SetupError(f"Function '{manifest.name}': engine torch needs 'model: {{source: …}}'")
    return TorchEngine(arguments(manifest, TorchArgs), _Source(manifest.name, model_path))


def _file(source: _Source) -> Path:
    if not source.path.is_dir():
        return source.path
    found = sorted(source.path.glob("*.pt2"))
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise SetupError(
            f"Function '{source.name}': {source.path} must have one .pt2 file; there are: {there}"
        )
    return found[0]


def _signature(program: Any, name: str) -> Signature:
    """Inputs by their names in the program; outputs by their keys, or `output_0` and so on."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    given, found = program.graph_signature.user_inputs, program.graph_signature.user_outputs
    return Signature(
        inputs=tuple(_spec(name, each, values.get(each)) for each in given),
        outputs=tuple(
            _spec(name, shown, values.get(each))
            for shown, each in zip(_output_names(program, len(found)), found, strict=True)
        ),
    )


def _output_names(program: Any, count: int) -> list[str]:
    whole = pytree.tree_unflatten(list(range(count)), program.call_spec.out_spec)
    if isinstance(whole, dict) and sorted(whole.values()) == list(range(count)):
        return [str(key) for key, _ in sorted(whole.items(), key=lambda item: item[1])]
    return [f"output_{number}" for number in range(count)]


def _spec(function: str, name: str, value: Any) -> TensorSpec:
    if not isinstance(value, torch.Tensor) or value.dtype not in _DATATYPES:
        raise SetupError(f"Function '{function}': '{name}' of the program is no tensor that callers can send")
    shape = tuple(size if isinstance(size, int) else ANY_LENGTH for size in value.shape)
    return TensorSpec(name=name, datatype=_DATATYPES[value.dtype], shape=shape)
