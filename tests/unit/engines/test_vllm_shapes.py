"""What goes into vLLM and what comes out, without it."""

from typing import Any

import orjson
import pytest
from pydantic import BaseModel, ValidationError

from headrace.contracts import bodies
from headrace.contracts.errors import ContextLengthExceeded, EngineFailed, HeadraceError, InvalidRequest
from headrace.contracts.requests import CHAT, COMPLETIONS
from headrace.core.ports import Call
from headrace.engines.vllm_answers import Answer
from headrace.engines.vllm_body import prepare
from headrace.engines.vllm_errors import Asked, ErrorInfo, explain, explain_field

MESSAGES = [{"role": "user", "content": "Hello"}]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": None}
USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def _call(path: str = CHAT, **body: Any) -> Call:
    value = orjson.dumps(({"messages": MESSAGES} if path == CHAT else {"prompt": "Hello"}) | body)
    return Call("req_a", "org/name", path, value, bodies.parse(path, value), 7)


@pytest.mark.parametrize(
    ("path", "asked", "limit", "name", "given"),
    [
        (CHAT, {}, None, "max_completion_tokens", 512),
        (CHAT, {"max_tokens": 2**40}, 100, "max_completion_tokens", 512),
        (CHAT, {}, 100, "max_completion_tokens", 100),
        (CHAT, {"max_tokens": 5}, 100, "max_completion_tokens", 5),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 6}, 100, "max_completion_tokens", 6),
        (COMPLETIONS, {}, None, "max_tokens", 512),
        (COMPLETIONS, {"max_tokens": 5}, 100, "max_tokens", 5),
    ],
)
def test_the_limit_of_tokens(
    path: str, asked: dict[str, int], limit: int | None, name: str, given: int
) -> None:
    body = prepare(_call(path, **asked), "id", 512, limit)
    assert {key: value for key, value in body.items() if key.startswith("max_")} == {name: given}


def test_only_what_shapes_the_answer_goes_in() -> None:
    foreign = {
        "priority": 1,
        "kv_transfer_params": {},
        "mm_processor_kwargs": {},
        "request_id": "x",
        "new": 1,
    }
    body = prepare(_call(top_k=3, min_p=0.1, model="m", top_p=None, **foreign), "id", 512, None)
    assert set(body) == {
        "messages", "top_k", "min_p", "max_completion_tokens", "request_id", "stop", "stream"
    }  # fmt: skip
    assert body["request_id"] == "id"


def test_a_stream_always_counts_its_tokens() -> None:
    assert prepare(_call(stream=True), "id", 512, None)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in prepare(_call(stream_options={"include_usage": True}), "id", 512, None)


@pytest.mark.parametrize("seed", [0, -1, 2**63])
def test_any_seed_will_do(seed: int) -> None:
    assert 0 <= prepare(_call(seed=seed), "id", 512, None)["seed"] < 2**63


@pytest.mark.parametrize(
    ("stop", "given"), [(None, []), ("", []), ("a", ["a"]), (["a", "", "b"], ["a", "b"])]
)
def test_an_empty_stop_string_is_none(stop: Any, given: list[str]) -> None:
    assert prepare(_call(stop=stop), "id", 512, None)["stop"] == given


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
        ({"response_format": {"x": "y" * 20_000}}, "response_format"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"n": 2}, "n"),
    ],
)
def test_what_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        prepare(_call(**body), "id", 512, None)
    assert refusal.value.param == param


def test_the_whole_answer_is_ours_and_has_no_field_of_vllms() -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning": "Hm", "tool_calls": [], "audio": None}
    choice = {"index": 0, "message": message, "finish_reason": "length", "logprobs": None, "token_ids": None}
    theirs = {"id": "x", "choices": [choice], "usage": USAGE, "system_fingerprint": "f", "metrics": None}
    final = Answer(_call()).whole(theirs)
    assert final.incomplete
    said = {"role": "assistant", "content": "Hi", "refusal": None, "reasoning_content": "Hm"}
    ours = {"index": 0, "finish_reason": "length", "logprobs": None, "message": said}
    head = {"id": "chatcmpl-a", "object": "chat.completion", "created": 7, "model": "org/name"}
    assert orjson.loads(final.value) == head | {"choices": [ours], "usage": USED}


def _delta(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def test_chunks_that_say_nothing_are_dropped_and_the_first_has_the_role() -> None:
    answer = Answer(_call(stream=True))
    assert answer.chunk(_delta(role="assistant", content="")) == []
    first, second, last = (
        orjson.loads(chunk)["choices"][0]
        for theirs in (_delta(content="A"), _delta(content="B"), _delta("stop", content=""))
        for chunk in answer.chunk(theirs)
    )
    assert [first["delta"], second["delta"]] == [{"role": "assistant", "content": "A"}, {"content": "B"}]
    assert last["finish_reason"] == "stop"
    assert answer.chunk({"choices": [], "usage": USAGE}) == []
    whole = orjson.loads(answer.merged().value)
    assert whole["choices"][0]["message"]["content"] == "AB"
    assert whole["usage"] == USED


def test_tool_calls_come_together() -> None:
    answer = Answer(_call(stream=True))
    begun = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"name": None, "arguments": '{"a":1}'}}
    (chunk,) = answer.chunk(_delta(tool_calls=[begun]))
    assert orjson.loads(chunk)["choices"][0]["delta"]["tool_calls"] == [begun]
    answer.chunk(_delta("tool_calls", tool_calls=[more]))
    (call,) = orjson.loads(answer.merged().value)["choices"][0]["message"]["tool_calls"]
    assert (call["id"], call["function"]) == ("call_1", {"name": "f", "arguments": '{"a":1}'})


def test_the_chosen_token_is_no_extra_among_the_best() -> None:
    best = [{"c": -3.0, "a": -1.0}]
    logprobs = {"tokens": ["c"], "token_logprobs": [-3.0], "text_offset": [0], "top_logprobs": best}
    choice = {"index": 0, "text": "c", "finish_reason": "stop", "logprobs": logprobs}
    final = Answer(_call(COMPLETIONS, logprobs=1)).whole({"choices": [choice], "usage": USAGE})
    assert orjson.loads(final.value)["choices"][0]["logprobs"]["top_logprobs"] == [{"a": -1.0}]


@pytest.mark.parametrize(
    ("error", "kind", "words", "param"),
    [
        (
            ErrorInfo("Too long. (parameter=input_tokens, value=513)", 400, "input_tokens"),
            ContextLengthExceeded, "has 513 tokens and the model's context holds 512", "messages",
        ),
        (
            ErrorInfo("Too long. (parameter=input_text, value=9999)", 400, "input_text"),
            ContextLengthExceeded, "has 9999 characters", "messages",
        ),
        (ErrorInfo("B (parameter=top_k, value=-7)", 400, "top_k"), InvalidRequest, "request: B", "top_k"),
        (ErrorInfo("top_k must be 0", 400), InvalidRequest, "top_k must be 0", "top_k"),
        (ErrorInfo("Not here", 501), InvalidRequest, "Not here", None),
        (ErrorInfo("Fault", 500), EngineFailed, "Fault", None),
        (ErrorInfo("Busy", 503), EngineFailed, "Busy", None),
    ],
)  # fmt: skip
def test_errors_are_told_apart(
    error: ErrorInfo, kind: type[HeadraceError], words: str, param: str | None
) -> None:
    ours = explain(error, Asked(512, {"messages", "top_k"}))
    assert type(ours) is kind
    assert ours.message.endswith(words) or words in ours.message
    assert "parameter=" not in ours.message
    assert ours.param == param


def test_a_field_of_the_wrong_kind_is_named() -> None:
    class Body(BaseModel):
        messages: list[int]

    with pytest.raises(ValidationError) as fault:
        Body.model_validate({"messages": ["x"]})
    assert explain_field(fault.value).param == "messages.0"
