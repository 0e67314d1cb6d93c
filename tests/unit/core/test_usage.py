"""Tokens and reasons, found in answers that are not parsed."""

import json

import orjson
import pytest

from headrace.core.usage import NOTHING, Usage, finish_reasons_of, usage_of


def answer(text: str, **usage: object) -> dict[str, object]:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "length"}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 11, **usage}}


@pytest.mark.parametrize("write", [orjson.dumps, lambda body: json.dumps(body, indent=2).encode()])
def test_the_tokens_are_those_of_the_usage(write) -> None:
    detailed = answer("hello", prompt_tokens_details={"prompt_tokens": 1}, total_tokens=18)
    assert usage_of(write(detailed)) == Usage(7, 11)
    assert finish_reasons_of(write(detailed)) == ["length"]


def test_an_answer_that_talks_of_usage_does_not_count() -> None:
    said = json.dumps({"usage": {"prompt_tokens": 1000, "completion_tokens": 1000}, "finish_reason": "stop"})
    assert usage_of(orjson.dumps(answer(said))) == Usage(7, 11)
    assert finish_reasons_of(orjson.dumps(answer(said))) == ["length"]


def test_embeddings_have_no_output() -> None:
    body = {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    assert usage_of(orjson.dumps(body)) == Usage(3, None)


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff\x00", b'{"output": 1}', b'{"usage": null}'])
def test_an_answer_that_does_not_say(value: bytes) -> None:
    assert usage_of(value) == NOTHING
    assert finish_reasons_of(value) == []
