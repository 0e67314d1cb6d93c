"""Tensors as bytes, read back by the libraries whose formats they are."""

import io

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from headrace.contracts.errors import EngineFailed
from headrace.contracts.formats import NPY, SAFETENSORS, Format
from headrace.core.rendering import render

DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "FP16": "f2",
    "FP32": "f4",
    "FP64": "f8",
}


def tensor(name, datatype, array):
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def rendered(document, kind, select=""):
    return render(orjson.dumps(document), Format(type=kind, select=select))


def read(value):
    return np.load(io.BytesIO(value), allow_pickle=False)


@pytest.mark.parametrize(("datatype", "dtype"), DTYPES.items())
@pytest.mark.parametrize("shape", [(2, 3), (6,), (), (0, 4)])
def test_every_datatype_reads_back(datatype, dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    answer = {"outputs": [tensor("y", datatype, array)]}
    found = read(rendered(answer, NPY, "/outputs/0"))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    (name, again), *rest = load(rendered(answer, SAFETENSORS, "/outputs")).items()
    assert (name, again.dtype, again.shape, rest) == ("y", array.dtype, array.shape, [])
    np.testing.assert_array_equal(again, array)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_floats_are_exact(values):
    array = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(read(rendered(tensor("y", "FP32", array), NPY)), array)


@pytest.mark.parametrize(
    ("nested", "dtype"),
    [([[1, 2], [3, 4]], "i8"), ([[0.5], [2]], "f8"), ([True, False], "?"), ([], "f8"), ([2**40], "i8")],
)
def test_nested_lists_are_tensors_too(nested, dtype):
    found = read(rendered({"output": {"y": nested}}, NPY, "/output/y"))
    np.testing.assert_array_equal(found, np.array(nested))
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(
        load(rendered({"output": {"y": nested}}, SAFETENSORS, "/output"))["y"], found
    )


def test_several_tensors_keep_their_names():
    outputs = [tensor("a", "INT8", np.arange(3)), tensor("ä b", "FP64", np.ones((2, 2)))]
    found = load(rendered({"outputs": outputs}, SAFETENSORS, "/outputs"))
    np.testing.assert_array_equal(found["a"], [0, 1, 2])
    np.testing.assert_array_equal(found["ä b"], np.ones((2, 2)))
    np.testing.assert_array_equal(load(rendered(outputs[0], SAFETENSORS))["a"], [0, 1, 2])


def test_the_data_begin_where_the_formats_want_them():
    for name in ("y", "yy", "y" * 60):
        one = tensor(name, "FP64", np.arange(3.0))
        value = rendered([one], SAFETENSORS)
        assert (8 + int.from_bytes(value[:8], "little")) % 8 == 0
        value = rendered(one, NPY)
        assert (10 + int.from_bytes(value[8:10], "little")) % 64 == 0


@pytest.mark.parametrize("kind", [NPY, SAFETENSORS])
@pytest.mark.parametrize(
    "wrong",
    [
        7,
        "text",
        None,
        {},
        [[1], [2, 3]],
        ["a"],
        {"y": 7},
        {"name": "y", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        {"name": "y", "datatype": "FP32", "shape": [1], "data": [None]},
        {"name": "y", "datatype": "INT8", "shape": [1], "data": [300]},
    ],
)
def test_what_is_no_tensor_is_told(kind, wrong):
    with pytest.raises(EngineFailed):
        rendered(wrong, kind)
