"""Wrong bodies get a sentence that helps, and never anything but an InvalidRequest."""

import json
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.contracts import bodies, openai
from headrace.contracts.errors import InvalidRequest, MalformedBody
from headrace.contracts.explain import explain
from headrace.contracts.requests import CHAT, COMPLETIONS, PATHS

_M = '"messages":[{"role":"user","content":"hi"}]'
_MESSAGES = 'a list of messages such as [{"role": "user", "content": "Hello"}]'


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "The body is empty; it must be a JSON object"),
        (" \n", "The body is empty; it must be a JSON object"),
        ("{", "The body is not valid JSON: EOF while parsing an object at line 1 column 1"),
        ("[]", "The body must be a JSON object"),
        ("null", "The body must be a JSON object"),
    ],
)
def test_what_is_no_object(body: str, sentence: str) -> None:
    with pytest.raises(MalformedBody) as raised:
        bodies.parse(CHAT, body.encode())
    assert raised.value.message == sentence


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        ("{}", "messages", f"Field 'messages' is required: {_MESSAGES}"),
        ('{"messages":[]}', "messages", f"Field 'messages' must be {_MESSAGES}; it is an empty list"),
        ('{"messages":"hi"}', "messages", f"Field 'messages' must be {_MESSAGES}; it is \"hi\""),
        ('{"messages":["hi"]}', "messages.0", "Field 'messages.0' must be an object; it is \"hi\""),
        ('{"messages":[{"content":"x"}]}', "messages.0.role", "Field 'messages.0.role' is required"),
        (
            '{"messages":[{"role":"bot","content":"x"}]}',
            "messages.0.role",
            "Field 'messages.0.role' must be one of 'system', 'developer', 'user', 'assistant', 'tool', "
            "'function'; it is \"bot\"",
        ),
        (
            '{"messages":[{"role":"user","content":5}]}',
            "messages.0.content",
            "Field 'messages.0.content' must be a string or a list of parts such as "
            '{"type": "text", "text": "Hello"}; it is 5',
        ),
        (f'{{{_M},"temperature":3}}', "temperature", "Field 'temperature' must be at most 2; it is 3"),
        (
            f'{{{_M},"temperature":"hot"}}',
            "temperature",
            "Field 'temperature' must be a number; it is \"hot\"",
        ),
        (f'{{{_M},"n":0}}', "n", "Field 'n' must be at least 1; it is 0"),
        (f'{{{_M},"n":1.5}}', "n", "Field 'n' must be a whole number; it is 1.5"),
        (
            f'{{{_M},"stop":5}}',
            "stop",
            "Field 'stop' must be a string or a list of at most 16 strings; it is 5",
        ),
        (
            f'{{{_M},"stop":["a",1]}}',
            "stop",
            "Field 'stop' must be a string or a list of at most 16 strings; it is a list of 2",
        ),
        (
            f'{{{_M},"stop":[{",".join(["1"] * 17)}]}}'.replace("1", '"x"'),
            "stop",
            "Field 'stop' must be a string or a list of at most 16 strings; it is a list of 17",
        ),
        (f'{{{_M},"stream":"maybe"}}', "stream", "Field 'stream' must be true or false; it is \"maybe\""),
        (
            f'{{{_M},"stream_options":{{"include_usage":7}}}}',
            "stream_options.include_usage",
            "Field 'stream_options.include_usage' must be true or false; it is 7",
        ),
        (f'{{{_M},"model":{{}}}}', "model", "Field 'model' must be a string; it is an object"),
        (
            f'{{{_M},"service_tier":"{"g" * 100}"}}',
            "service_tier",
            f"Field 'service_tier' must be one of 'auto', 'default', 'flex', 'priority'; it is \"{'g' * 39}…",
        ),
        (f'{{{_M},"temperature":NaN}}', "temperature", "Field 'temperature' must be at most 2"),
    ],
)
def test_a_wrong_field_of_a_chat(body: str, param: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        bodies.parse(CHAT, body.encode())
    assert (raised.value.param, raised.value.message) == (param, sentence)


@pytest.mark.parametrize("prompt", ["5", "[]", "[1,2]", "[[1]]", "{}"])
def test_a_wrong_prompt(prompt: str) -> None:
    with pytest.raises(InvalidRequest, match="must be a string or a list of strings") as raised:
        bodies.parse(COMPLETIONS, f'{{"prompt":{prompt}}}'.encode())
    assert raised.value.param == "prompt"


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_json = (
    _leaf | st.lists(_leaf, max_size=3) | st.lists(st.dictionaries(st.text(max_size=8), _leaf, max_size=3))
)
_fields = st.sampled_from([*openai.ChatBody.model_fields, "prompt", "role", "content", "other"])


@given(path=st.sampled_from(PATHS), value=st.binary(max_size=64))
def test_any_bytes_are_a_body_or_an_invalid_request(path: str, value: bytes) -> None:
    _parse(path, value)


@given(path=st.sampled_from(PATHS), document=st.dictionaries(_fields, _json, max_size=6))
def test_any_document_is_a_body_or_an_invalid_request(path: str, document: dict[str, object]) -> None:
    _parse(path, json.dumps(document).encode())


def _parse(path: str, value: bytes) -> None:
    with suppress(InvalidRequest):
        bodies.parse(path, value)


@pytest.mark.parametrize("name", ["", "more", "÷_\x06", "x" * 99])
def test_a_field_that_is_not_there_whatever_its_name(name: str) -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")

    body = orjson.dumps({name: []})
    with pytest.raises(ValidationError) as told:
        Strict.model_validate_json(body)
    error = explain(told.value, body)
    assert error.message == f"There is no field '{name[:40]}'"
    assert error.param == name[:40]
