"""`/v1/embeddings`: what is taken, and the shape of the answer."""

import base64
import struct

import pytest
from jsonschema import Draft202012Validator

from headrace.contracts import bodies, embeddings
from headrace.contracts.documents.responses import SCHEMAS
from headrace.contracts.embeddings import EmbeddingBody, check_dimensions
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import EMBEDDINGS


def parse(rest: str) -> EmbeddingBody:
    body = bodies.parse(EMBEDDINGS, f'{{"model":"m",{rest}}}'.encode())
    assert isinstance(body, EmbeddingBody)
    return body


@pytest.mark.parametrize(
    ("sent", "inputs", "last"),
    [
        ('"a"', ["a"], "input"),
        ('["a"]', ["a"], "input.0"),
        ('["a","b"]', ["a", "b"], "input.1"),
        ("[1,2]", [[1, 2]], "input"),
        ("[[1],[2,3]]", [[1], [2, 3]], "input.1"),
    ],
)
def test_every_kind_of_input_is_a_list(sent, inputs, last):
    body = parse(f'"input":{sent}')
    assert body.inputs == inputs
    assert body.field(len(inputs) - 1) == last
    assert (body.stream, body.token_limit, body.wants_usage_chunk) == (None, None, False)


@pytest.mark.parametrize(
    "sent",
    [
        '""',
        "[]",
        "[[]]",
        '["a",""]',
        '["a",1]',
        "[-1]",
        "[1.5]",
        "[true]",
        "7",
        "null",
        "{}",
        "[" + '"a",' * 2048 + '"a"]',
    ],
)
def test_what_is_no_input(sent):
    with pytest.raises(
        InvalidRequest, match=r"Field 'input.*must be a string, a list of token ids"
    ) as raised:
        parse(f'"input":{sent}')
    assert raised.value.param.partition(".")[0] == "input"


@pytest.mark.parametrize(
    ("rest", "param", "said"),
    [
        ('"n":1', "input", "is required: a string, a list of token ids"),
        ('"input":"a","encoding_format":"hex"', "encoding_format", "one of 'float', 'base64'"),
        ('"input":"a","dimensions":0', "dimensions", "at least 1"),
    ],
)
def test_what_is_wrong_is_named(rest, param, said):
    with pytest.raises(InvalidRequest, match=said) as raised:
        parse(rest)
    assert raised.value.param == param


def test_predictions_have_an_input_of_their_own():
    with pytest.raises(InvalidRequest) as raised:
        bodies.parse("/v1/predictions", b'{"model":"m"}')
    assert raised.value.message == "Field 'input' is required"


def test_the_answer_is_openais():
    packed = struct.pack("<2f", 0.5, -1.0)
    data = [embeddings.embedding(0, [0.5, -1.0]), embeddings.embedding(1, packed)]
    answer = embeddings.response("m", data, 7)
    Draft202012Validator(SCHEMAS["EmbeddingList"]).validate(answer)
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert base64.b64decode(answer["data"][1]["embedding"]) == packed


@pytest.mark.parametrize(("wanted", "may_shorten", "given"), [(None, False, 8), (8, False, 8), (3, True, 3)])
def test_dimensions(wanted, may_shorten, given):
    body = EmbeddingBody(input="a", dimensions=wanted)
    assert check_dimensions(body, 8, may_shorten=may_shorten) == given


@pytest.mark.parametrize(("wanted", "may_shorten"), [(3, False), (9, False), (9, True)])
def test_dimensions_that_a_model_has_not(wanted, may_shorten):
    with pytest.raises(InvalidRequest, match=f"'dimensions' is {wanted}; this model gives") as raised:
        check_dimensions(EmbeddingBody(input="a", dimensions=wanted), 8, may_shorten=may_shorten)
    assert raised.value.param == "dimensions"
