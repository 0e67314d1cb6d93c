"""OpenAI bodies, and the answers that are built for them."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from headrace.contracts import bodies, openai
from headrace.contracts.documents.responses import SCHEMAS
from headrace.contracts.openai import ChatBody, CompletionBody, Shape
from headrace.contracts.requests import CHAT, COMPLETIONS


def test_a_chat_body() -> None:
    body = bodies.parse(
        CHAT,
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},'
        b'{"type":"text","text":"b"}]},{"role":"assistant","content":null}],"max_tokens":5,'
        b'"max_completion_tokens":7,"stream_options":{"include_usage":true},"n":1.0,"tools":[{"x":1}]}',
    )
    assert isinstance(body, ChatBody)
    assert [message.text for message in body.messages] == ["ab", ""]
    assert (body.token_limit, body.wants_usage_chunk, body.n) == (7, True, 1)


def test_a_completion_body() -> None:
    body = bodies.parse(COMPLETIONS, b'{"prompt":["a","b"],"max_tokens":5,"logprobs":2,"echo":true}')
    assert isinstance(body, CompletionBody)
    assert (body.prompt, body.token_limit, body.wants_usage_chunk) == (["a", "b"], 5, False)


@pytest.mark.parametrize(
    ("path", "whole", "piece"),
    [(CHAT, "ChatCompletion", "ChatCompletionChunk"), (COMPLETIONS, "Completion", "CompletionChunk")],
)
def test_answers_are_as_the_documents_say(path: str, whole: str, piece: str) -> None:
    shape = Shape(request_id="req_abc", path=path, model="m", created_s=1)
    used = openai.usage(3, 4)
    _check(whole, shape.response("text", "stop", used))
    chunks = [
        shape.chunk("", first=True),
        shape.chunk("text"),
        shape.chunk(None, "stop"),
        shape.usage_chunk(used),
    ]
    for chunk in chunks:
        _check(piece, chunk)
    assert {chunk["id"] for chunk in chunks} == {openai.response_id("req_abc", path)}


def test_response_ids() -> None:
    assert openai.response_id("req_abc", CHAT) == "chatcmpl-abc"
    assert openai.response_id("results-0-7", COMPLETIONS) == "cmpl-results-0-7"


def _check(schema: str, document: dict[str, Any]) -> None:
    Draft202012Validator(SCHEMAS[schema]).validate(document)
