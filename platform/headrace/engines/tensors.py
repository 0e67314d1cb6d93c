"""Tensors between callers' JSON and a model's arrays, for every engine that has them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from headrace.contracts import tensors
from headrace.contracts.errors import EngineFailed, InvalidRequest
from headrace.contracts.tensors import (
    MAX_AXES,
    InferBody,
    InputTensor,
    Signature,
    TensorSpec,
    flat_and_shape,
)

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
"""By name."""

JSON_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY
ANY_LENGTH: Final = -1

_DTYPES: Final[Mapping[str, Any]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,  # of str
}
_DATATYPES: Final = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def from_infer(body: InferBody, signature: Signature) -> Arrays:
    """What the model is run on.

    Raises:
        InvalidRequest: a name, datatype or shape is not the model's, or an input is missing.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    arrays: dict[str, Array] = {}
    for number, tensor in enumerate(body.inputs):
        spec = specs.get(tensor.name)
        if spec is None:
            raise InvalidRequest(
                f"There is no input '{tensor.name}'; {_takes(specs)}", param=f"inputs.{number}.name"
            )
        if tensor.datatype != spec.datatype:
            raise InvalidRequest(
                f"Input '{spec.name}' is {tensor.datatype}; this model takes {spec.datatype}",
                param=f"inputs.{number}.datatype",
            )
        arrays[spec.name] = _array(tensor, spec, f"inputs.{number}.shape")
    _check_complete(arrays, specs, "inputs")
    names = [spec.name for spec in signature.outputs]
    for number, wanted in enumerate(body.outputs or ()):
        if wanted.name not in names:
            raise InvalidRequest(
                f"There is no output '{wanted.name}'; this model gives {', '.join(names)}",
                param=f"outputs.{number}.name",
            )
    return arrays


def from_prediction(given: object, signature: Signature) -> Arrays:
    """The same from the `input` of a prediction: nested lists, or a single value, by name.

    Raises:
        InvalidRequest: as `from_infer`.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    if not isinstance(given, dict):
        raise InvalidRequest(f"Field 'input' must be an object of arrays: {_takes(specs)}", param="input")
    arrays: dict[str, Array] = {}
    for name, data in given.items():
        field = f"input.{name}"
        spec = specs.get(name)
        if spec is None:
            raise InvalidRequest(f"There is no input '{name}'; {_takes(specs)}", param=field)
        found = flat_and_shape(data)
        if found is None or len(found[1]) > MAX_AXES:
            raise InvalidRequest(f"Input '{name}': its lists differ in length, or are too deep", param=field)
        tensor = InputTensor(name=name, shape=found[1], datatype=spec.datatype, data=found[0])
        arrays[name] = _array(tensor, spec, field)
    _check_complete(arrays, specs, "input")
    return arrays


def to_infer(arrays: Arrays, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Output tensors in the protocol's form; all without `wanted`. What is no number in JSON becomes null."""
    return [
        tensors.output(name, datatype(arrays[name].dtype), arrays[name].shape, _plain(arrays[name].ravel()))
        for name in wanted or arrays
    ]


def to_prediction(arrays: Arrays) -> dict[str, Any]:
    """The same as the `output` of a prediction: nested as their shape is."""
    return {name: _plain(array) for name, array in arrays.items()}


def datatype(dtype: npt.DTypeLike) -> str:
    """The protocol's name.

    Raises:
        EngineFailed: it has none.
    """
    found = _DATATYPES.get(np.dtype(dtype))
    if found is None:
        raise EngineFailed(f"The model gives {np.dtype(dtype)}, which is no datatype of the protocol")
    return found


def _array(tensor: InputTensor, spec: TensorSpec, field: str) -> Array:
    if not _fits(tensor.shape, spec.shape):
        raise InvalidRequest(
            f"Input '{spec.name}' has shape {tensor.shape}; this model takes {list(spec.shape)}, where -1 is "
            "any length",
            param=field,
        )
    try:
        return np.array(tensor.values(), dtype=_DTYPES[spec.datatype]).reshape(tensor.shape)
    except InvalidRequest as error:
        error.param = field
        raise
    except ValueError:  # no data, and axes that no array can have
        raise InvalidRequest(f"Input '{spec.name}': no array has shape {tensor.shape}", param=field) from None


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    # Without axes it is a scalar, or a tensor of which the file does not say: its engine knows.
    if not wanted:
        return True
    return len(shape) == len(wanted) and all(
        need in (size, ANY_LENGTH) for size, need in zip(shape, wanted, strict=True)
    )


def _check_complete(arrays: Arrays, specs: Mapping[str, TensorSpec], field: str) -> None:
    for name in specs:
        if name not in arrays:
            raise InvalidRequest(f"Input '{name}' is missing; {_takes(specs)}", param=field)


def _takes(specs: Mapping[str, TensorSpec]) -> str:
    each: Iterable[str] = (f"'{s.name}' ({s.datatype} {list(s.shape)})" for s in specs.values())
    return f"this model takes {', '.join(each)}"


def _plain(array: Array) -> object:
    """As orjson writes it."""
    if array.dtype == np.object_ or not array.ndim:
        return array.tolist()
    return np.ascontiguousarray(array)
