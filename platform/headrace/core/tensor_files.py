"""Tensors as bytes: NumPy's npy, and safetensors. Pure, and without numpy.

Sources: NumPy's "NPY format" (NEP 1), version 1.0; the safetensors README, "Format".
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from headrace.contracts.errors import EngineFailed
from headrace.contracts.tensors import flat_and_shape

_NPY_MAGIC: Final = b"\x93NUMPY\x01\x00"
_NPY_ALIGNMENT: Final = 64
_SAFETENSORS_ALIGNMENT: Final = 8


class _Kind(NamedTuple):
    """How a datatype is packed (as `struct` says it), and its names in the two formats."""

    code: str
    npy: str
    safetensors: str


_KINDS: Final[Mapping[str, _Kind]] = {
    "BOOL": _Kind("?", "|b1", "BOOL"),
    "UINT8": _Kind("B", "|u1", "U8"),
    "UINT16": _Kind("H", "<u2", "U16"),
    "UINT32": _Kind("I", "<u4", "U32"),
    "UINT64": _Kind("Q", "<u8", "U64"),
    "INT8": _Kind("b", "|i1", "I8"),
    "INT16": _Kind("h", "<i2", "I16"),
    "INT32": _Kind("i", "<i4", "I32"),
    "INT64": _Kind("q", "<i8", "I64"),
    "FP16": _Kind("e", "<f2", "F16"),
    "FP32": _Kind("f", "<f4", "F32"),
    "FP64": _Kind("d", "<f8", "F64"),
}


class _Tensor(NamedTuple):
    kind: _Kind
    shape: Sequence[int]
    packed: bytes


def npy(found: Any, where: str) -> bytes:
    """One array: a tensor of the Open Inference Protocol, or nested lists of numbers.

    Numbers in lists are FP64, or INT64 when all are whole.

    Raises:
        EngineFailed: it is none; `where` tells where it was looked for.
    """
    kind, shape, packed = _tensor(found, where)
    axes = "".join(f"{size}," for size in shape)
    head = f"{{'descr': '{kind.npy}', 'fortran_order': False, 'shape': ({axes}), }}"
    missing = -(len(_NPY_MAGIC) + 2 + len(head) + 1) % _NPY_ALIGNMENT
    line = f"{head}{' ' * missing}\n".encode()
    return _NPY_MAGIC + struct.pack("<H", len(line)) + line + packed


def safetensors(found: Any, where: str) -> bytes:
    """Several arrays: a list of the protocol's tensors, or an object of nested lists by name.

    Raises:
        EngineFailed: as `npy`.
    """
    named = _named(found, where)
    head: dict[str, Any] = {}
    parts: list[bytes] = []
    at = 0
    for name, each in named.items():
        tensor = _tensor(each, f"{where}/{name}")
        end = at + len(tensor.packed)
        head[name] = {
            "dtype": tensor.kind.safetensors,
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        parts.append(tensor.packed)
        at = end
    line = orjson.dumps(head)
    line += b" " * (-len(line) % _SAFETENSORS_ALIGNMENT)
    return struct.pack("<Q", len(line)) + line + b"".join(parts)


def _named(found: Any, where: str) -> Mapping[str, Any]:
    if isinstance(found, list) and all(isinstance(each, dict) and "name" in each for each in found):
        return {str(each["name"]): each for each in found}
    if isinstance(found, dict) and "datatype" in found:
        return {str(found.get("name", "tensor")): found}
    if isinstance(found, dict) and found:
        return found
    raise EngineFailed(f"The answer has no tensors at {where or 'its root'}, so it cannot be given as such")


def _tensor(found: Any, where: str) -> _Tensor:
    if isinstance(found, dict) and {"datatype", "shape", "data"} <= found.keys():
        kind = _KINDS.get(found["datatype"])
        if kind is None:
            raise EngineFailed(f"Strings, which are at {where}, cannot be given as bytes of a tensor")
        return _packed(kind, found["data"], found["shape"], where)
    nested = flat_and_shape(found) if isinstance(found, list) else None
    if nested is None:
        raise EngineFailed(f"The answer has no tensor at {where or 'its root'}, so it cannot be given as one")
    flat, shape = nested
    return _packed(_KINDS[_datatype(flat)], flat, shape, where)


def _packed(kind: _Kind, flat: Sequence[Any], shape: Sequence[int], where: str) -> _Tensor:
    try:
        return _Tensor(kind, shape, struct.pack(f"<{len(flat)}{kind.code}", *flat))
    except (struct.error, OverflowError):
        # JSON has null for NaN and infinities; which of them it was, nobody knows any more.
        raise EngineFailed(
            f"The tensor at {where or 'the root'} has values that are no numbers in JSON, such as NaN"
        ) from None


def _datatype(flat: Sequence[Any]) -> str:
    kinds = set(map(type, flat))
    if kinds == {bool}:
        return "BOOL"
    return "INT64" if kinds == {int} else "FP64"
