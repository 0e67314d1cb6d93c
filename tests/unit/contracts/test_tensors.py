"""Tensors of the Open Inference Protocol: what is taken, and what is wrong is named."""

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from headrace.contracts import bodies, tensors
from headrace.contracts.documents.responses import SCHEMAS
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import INFER
from headrace.contracts.tensors import InferBody, flat_and_shape


def parse(**tensor) -> InferBody:
    whole = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]} | tensor
    body = bodies.parse(INFER, json.dumps({"id": "7", "inputs": [whole]}).encode())
    assert isinstance(body, InferBody)
    return body


@pytest.mark.parametrize(
    ("tensor", "values"),
    [
        ({}, [1, 2, 3, 4]),
        ({"data": [[1, 2], [3, 4.5]]}, [1, 2, 3, 4.5]),
        ({"shape": [2, 1, 2], "data": [[[1, 2]], [[3, 4]]]}, [1, 2, 3, 4]),
        ({"shape": [], "data": [5]}, [5]),
        ({"shape": [0, 3], "data": []}, []),
        ({"shape": [2, 0], "data": [[], []]}, []),
        ({"datatype": "BOOL", "data": [True, False, True, True]}, [True, False, True, True]),
        ({"datatype": "UINT64", "shape": [1], "data": [2**64 - 1]}, [2**64 - 1]),
        ({"datatype": "INT8", "shape": [2], "data": [-128, 127]}, [-128, 127]),
        ({"datatype": "BYTES", "shape": [1], "data": ["ä"]}, ["ä"]),
        ({"datatype": "FP16", "shape": [1], "data": [-65504]}, [-65504]),
    ],
)
def test_values_are_flat(tensor, values):
    (found,) = parse(**tensor).inputs
    assert found.values() == values


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ({"data": [1, 2, 3]}, r"Input 'x' has 3 values; its shape \[2, 2\] holds 4"),
        ({"data": []}, "has 0 values"),
        ({"data": [[1, 2], [3]]}, "not nested as its shape"),
        ({"data": [[1, 2], 3]}, "not nested as its shape"),
        ({"data": [[1, 2, 3, 4]]}, "not nested as its shape"),
        ({"shape": [2**31 - 1, 2**31 - 1], "data": [1]}, "has 1 values"),
        ({"data": [1, 2, 3, [4]]}, "must be numbers"),
        ({"data": [1, 2, 3, "4"]}, "is FP32: its data must be numbers"),
        ({"data": [1, 2, 3, None]}, "must be numbers"),
        ({"data": [1, 2, 3, True]}, "must be numbers"),
        ({"data": [1, 2, 3, math.nan]}, "has a value that FP32 cannot hold"),
        ({"data": [1, 2, 3, 10**400]}, "has a value that FP32 cannot hold"),
        ({"data": [1, 2, 3, 1e39]}, "has a value that FP32 cannot hold"),
        ({"datatype": "FP16", "data": [1, 2, 3, 65505]}, "FP16 cannot hold"),
        ({"datatype": "INT64", "data": [1, 2, 3, 4.0]}, "must be whole numbers"),
        ({"datatype": "INT8", "data": [1, 2, 3, 128]}, "INT8 cannot hold"),
        ({"datatype": "UINT8", "data": [1, 2, 3, -1]}, "UINT8 cannot hold"),
        ({"datatype": "BOOL", "data": [1, 0, 1, 0]}, "must be true or false"),
        ({"datatype": "BYTES", "data": [1, 0, 1, 0]}, "must be strings"),
    ],
)
def test_data_that_do_not_fit_are_named(tensor, said):
    with pytest.raises(InvalidRequest, match=said) as raised:
        parse(**tensor)
    assert raised.value.param == "inputs.0.data"


@pytest.mark.parametrize(
    ("tensor", "param"),
    [
        ({"datatype": "FP8"}, "inputs.0.datatype"),
        ({"shape": [-1]}, "inputs.0.shape.0"),
        ({"shape": [1.5]}, "inputs.0.shape.0"),
        ({"shape": [2**31]}, "inputs.0.shape.0"),
        ({"shape": [1] * 33}, "inputs.0.shape"),
        ({"shape": None}, "inputs.0.shape"),
        ({"name": None}, "inputs.0.name"),
        ({"data": "1234"}, "inputs.0.data"),
    ],
)
def test_fields_that_are_wrong_are_named(tensor, param):
    with pytest.raises(InvalidRequest) as raised:
        parse(**tensor)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}] * 2}, "inputs.1.name"),
        (
            {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "outputs": []},
            "outputs",
        ),
    ],
)
def test_bodies_that_are_wrong(body, param):
    with pytest.raises(InvalidRequest) as raised:
        bodies.parse(INFER, json.dumps(body).encode())
    assert raised.value.param == param


def test_the_body_names_no_model_and_no_lane():
    body = parse()
    assert (body.id, body.model, body.service_tier, body.stream, body.token_limit) == (
        "7",
        None,
        None,
        None,
        None,
    )


def test_the_answer_is_the_protocols():
    answer = tensors.response("m", "1", "7", [tensors.output("y", "FP32", (1, 2), [0.5, 1.0])])
    Draft202012Validator(SCHEMAS["InferResponse"]).validate(answer)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (7, ([7], [])),
        ([1, 2], ([1, 2], [2])),
        ([[1], [2]], ([1, 2], [2, 1])),
        ([], ([], [0])),
        ([[], []], ([], [2, 0])),
        ([1, [2]], None),
        ([[1], [2, 3]], None),
        ([[1], 2], None),
    ],
)
def test_shapes_of_nested_lists(data, found):
    assert flat_and_shape(data) == found


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
_data = st.recursive(_leaf, lambda inner: st.lists(inner, max_size=3), max_leaves=12)
_tensor = st.fixed_dictionaries(
    {
        "name": st.just("x"),
        "shape": st.lists(st.integers(0, 3), max_size=3),
        "datatype": st.sampled_from(["BOOL", "INT8", "FP16", "FP64", "BYTES", "X"]),
        "data": st.lists(_data, max_size=4),
    }
)


@given(_tensor)
def test_any_tensor_is_taken_or_an_invalid_request(tensor):
    with suppress(InvalidRequest):
        assert len(parse(**tensor).inputs[0].values()) == math.prod(tensor["shape"])


@given(
    st.lists(st.integers(1, 3), max_size=3).flatmap(
        lambda shape: st.tuples(st.just(shape), st.just(list(range(math.prod(shape)))))
    )
)
def test_nested_and_flat_are_the_same(case):
    shape, flat = case
    nested = flat
    for size in reversed(shape[1:]):
        nested = [nested[at : at + size] for at in range(0, len(nested), size)]
    assert flat_and_shape(nested if shape else flat[0]) == (flat, shape)
