"""Predictions: any JSON in, any JSON out."""

import pytest

from headrace.contracts import bodies, manifest
from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.predictions import PredictionBody, whole
from headrace.contracts.requests import PREDICTIONS

PYTHON = {"name": "f", "engine": {"kind": "python"}}


@pytest.mark.parametrize("value", [b"1", b'"text"', b"null", b"[1,2]", b'{"a":{"b":1}}'])
def test_input_is_any_json(value):
    body = bodies.parse(PREDICTIONS, b'{"model":"f","input":' + value + b',"other":1}')
    assert isinstance(body, PredictionBody)
    assert (body.model, body.stream, body.token_limit, body.wants_usage_chunk) == ("f", None, None, False)


def test_input_is_required():
    with pytest.raises(InvalidRequest, match="'input' is required") as caught:
        bodies.parse(PREDICTIONS, b'{"model":"f"}')
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("pieces", "expected"), [([], []), (["a", "b"], "ab"), ([1, 2], [1, 2]), (["a", 1], ["a", 1])]
)
def test_what_the_pieces_come_to(pieces, expected):
    assert whole(pieces) == expected


def test_a_python_function_serves_predictions_unless_it_says_otherwise():
    assert manifest.parse(PYTHON, where="x").serves == (PREDICTIONS,)
    said = manifest.parse({**PYTHON, "serves": ["/v1/chat/completions"]}, where="x")
    assert said.serves == ("/v1/chat/completions",)
    assert manifest.Manifest.model_validate_json(said.model_dump_json()) == said


def test_what_is_no_schema_is_refused_at_deployment():
    with pytest.raises(SetupError, match=r"parameters: .*not a JSON Schema"):
        manifest.parse({**PYTHON, "parameters": {"type": "nope"}}, where="x")
    with pytest.raises(SetupError, match="serves"):
        manifest.parse({**PYTHON, "serves": []}, where="x")
