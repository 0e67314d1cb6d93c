"""Tensors as the Open Inference Protocol's JSON has them (`/v2/models/{model}/infer`).

Source: Open Inference Protocol v2, REST, "Inference": a tensor is a name, a shape, a datatype, and `data` in
row-major order, flat or nested as the shape is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts.errors import InvalidRequest

Datatype: TypeAlias = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
_WHOLE: Final = frozenset({int})
_NUMBERS: Final = frozenset({int, float})
_KINDS: Final[Mapping[str, tuple[frozenset[type], str]]] = {
    "BOOL": (frozenset({bool}), "true or false"),
    "BYTES": (frozenset({str}), "strings"),
    "FP16": (_NUMBERS, "numbers"),
    "FP32": (_NUMBERS, "numbers"),
    "FP64": (_NUMBERS, "numbers"),
}
_LARGEST: Final = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": math.inf}
MAX_AXES: Final = 32

_Size = Annotated[int, Field(ge=0, lt=2**31, strict=True)]


class TensorSpec(BaseModel):
    """What a tensor of a model looks like; -1 is an axis of any length."""

    model_config = ConfigDict(frozen=True)

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class Signature(BaseModel):
    """What a model takes and gives."""

    model_config = ConfigDict(frozen=True)

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class InputTensor(BaseModel):
    """A tensor that a caller sends."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    shape: Annotated[list[_Size], Field(max_length=MAX_AXES)]
    datatype: Datatype
    data: list[Any]

    def values(self) -> list[Any]:
        """`data`, flat.

        Raises:
            InvalidRequest: there are more or fewer than the shape holds, or they are of another kind.
        """
        flat = _flat(self.data, self.shape) if _is_nested(self.data) else self.data
        if flat is None:
            raise InvalidRequest(f"Input '{self.name}': 'data' is not nested as its shape {self.shape} is")
        holds = math.prod(self.shape)
        if len(flat) != holds:
            raise InvalidRequest(
                f"Input '{self.name}' has {len(flat)} values; its shape {self.shape} holds {holds}"
            )
        allowed, called = _KINDS.get(self.datatype, (_WHOLE, "whole numbers"))
        if not allowed.issuperset(map(type, flat)):
            raise InvalidRequest(f"Input '{self.name}' is {self.datatype}: its data must be {called}")
        if flat and allowed <= _NUMBERS:
            self._check_range(flat)
        return flat

    def _check_range(self, flat: list[Any]) -> None:
        least, most = _range(self.datatype)
        try:
            fits = all(map(math.isfinite, flat)) and least <= min(flat) and max(flat) <= most
        except OverflowError:  # a whole number that no float can hold
            fits = False
        if not fits:
            raise InvalidRequest(f"Input '{self.name}' has a value that {self.datatype} cannot hold")


class RequestedOutput(BaseModel):
    """An output that a caller wants."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str


class InferBody(BaseModel):
    """Body of `/v2/models/{model}/infer`; the model is in the path, or the topic's. Never streamed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str | None = None
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: Annotated[list[RequestedOutput], Field(min_length=1)] | None = None

    @property
    def model(self) -> None:
        """Not in the body."""

    @property
    def service_tier(self) -> None:
        """The protocol has none."""

    @property
    def stream(self) -> None:
        """There is none."""

    @property
    def token_limit(self) -> None:
        """Nothing is counted in tokens."""

    @property
    def wants_usage_chunk(self) -> bool:
        """There is none."""
        return False

    def check(self) -> None:
        """Check names, and that each tensor's data fit its shape and datatype.

        Raises:
            InvalidRequest: one does not; the message names it, `param` says where it stands.
        """
        seen: set[str] = set()
        for number, tensor in enumerate(self.inputs):
            if tensor.name in seen:
                raise InvalidRequest(f"Input '{tensor.name}' is there twice", param=f"inputs.{number}.name")
            seen.add(tensor.name)
            try:
                tensor.values()
            except InvalidRequest as error:
                error.param = f"inputs.{number}.data"
                raise


def output(name: str, datatype: str, shape: Sequence[int], data: object) -> dict[str, Any]:
    """An output tensor of an answer; `data` is flat."""
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


def response(
    model: str, version: str, request_id: str, outputs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The whole answer."""
    return {"model_name": model, "model_version": version, "id": request_id, "outputs": list(outputs)}


def flat_and_shape(data: object) -> tuple[list[Any], list[int]] | None:
    """Nested lists as flat values and a shape; None when their lengths do not agree."""
    shape: list[int] = []
    level = data
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    if not shape:
        return [data], []
    flat = _flat(data, shape)
    return None if flat is None or any(isinstance(each, list) for each in flat) else (flat, shape)


def _is_nested(data: list[Any]) -> bool:
    return bool(data) and isinstance(data[0], list)


def _flat(data: Any, shape: Sequence[int]) -> list[Any] | None:
    level = [data]
    for size in shape:
        if not all(isinstance(each, list) and len(each) == size for each in level):
            return None
        level = [value for each in level for value in each]
    return level


def _range(datatype: str) -> tuple[float, float]:
    if datatype in _LARGEST:
        return -_LARGEST[datatype], _LARGEST[datatype]
    bits = int(datatype.removeprefix("U").removeprefix("INT"))
    return (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
