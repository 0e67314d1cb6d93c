"""What goes into llama.cpp and what comes out, without it."""

from typing import Any

import orjson
import pytest

from headrace.contracts import bodies
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import CHAT, COMPLETIONS
from headrace.core.ports import Call
from headrace.engines.llamacpp_body import prepare
from headrace.engines.llamacpp_chunks import ChunkReader

MESSAGES = [{"role": "user", "content": "Hello"}]
PICTURE = [{"role": "user", "content": [{"type": "image_url"}]}]


def _call(path: str = CHAT, **body: Any) -> Call:
    value = orjson.dumps(({"messages": MESSAGES} if path == CHAT else {"prompt": "Hello"}) | body)
    return Call("req_a", "org/name", path, value, bodies.parse(path, value), 7)


def _prepared(call: Call, max_tokens: int | None = None) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(prepare(call, 2048, max_tokens))
    return body


def test_it_is_always_a_stream_that_can_be_aborted() -> None:
    body = _prepared(_call(stream=False))
    assert body["stream"]
    assert body["return_progress"]
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("asked", "limit", "given"),
    [
        ({}, None, 2048),
        ({}, 100, 100),
        ({"max_tokens": 5}, 100, 5),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 100, 6),
        ({"max_tokens": 2**40}, None, 2048),
        ({"n_predict": -1, "max_tokens": 5}, None, 5),
    ],
)
def test_the_limit_of_tokens(asked: dict[str, int], limit: int | None, given: int) -> None:
    body = _prepared(_call(**asked), limit)
    assert body["max_tokens"] == given
    assert not {"max_completion_tokens", "n_predict"} & set(body)


def test_what_shapes_the_answer_stays_and_what_steers_the_server_does_not() -> None:
    body = _prepared(_call(top_k=3, min_p=0.1, id_slot=1, lora=[], verbose=True, cache_prompt=False))
    assert (body["top_k"], body["min_p"]) == (3, 0.1)
    assert not {"id_slot", "lora", "verbose"} & set(body)
    assert body["cache_prompt"]


@pytest.mark.parametrize("seed", [0, -1, 2**31, 2**80])
def test_any_seed_becomes_one_that_fits(seed: int) -> None:
    value = b'{"messages":[{"role":"user","content":"x"}],"seed":%d}' % seed
    call = Call("req_a", "m", CHAT, value, bodies.parse(CHAT, value), 7)
    assert 0 <= _prepared(call)["seed"] < 2**31


def test_log_probabilities_of_the_chosen_token_are_always_asked_for() -> None:
    assert _prepared(_call(logprobs=True))["top_logprobs"] == 1
    assert _prepared(_call(logprobs=True, top_logprobs=3))["top_logprobs"] == 3
    assert _prepared(_call(COMPLETIONS, logprobs=0))["logprobs"] == 1


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"n": 2}, "n"),
        (CHAT, {"grammar": "root ::= x"}, "grammar"),
        (CHAT, {"response_format": {"schema": {"enum": ["x"] * 30_000}}}, "response_format"),
        (CHAT, {"messages": [*MESSAGES, *PICTURE]}, "messages.1.content"),
        (COMPLETIONS, {"echo": True}, "echo"),
        (COMPLETIONS, {"prompt": ["a", "b"]}, "prompt"),
    ],
)
def test_what_cannot_be_done_is_told(path: str, body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        prepare(_call(path, **body), 2048, None)
    assert refusal.value.param == param


def _read(call: Call, *chunks: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    reader = ChunkReader(call)
    said = [orjson.loads(ours) for theirs in chunks for ours in reader.read(theirs)]
    return said, reader.whole.response()


def _theirs(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    foreign = {"id": "theirs", "model": "/a/path", "created": 1, "system_fingerprint": "b0", "timings": {}}
    return foreign | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason, **more}]}


USED = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_chunks_become_ours() -> None:
    said, whole = _read(
        _call(stream=True, stream_options={"include_usage": True}),
        _theirs({"role": "assistant", "content": None}) | {"prompt_progress": {"total": 9}},
        _theirs({"role": "assistant", "content": None}),
        _theirs({"content": "Hel"}),
        _theirs({"content": "lo"}),
        _theirs({}, "stop"),
        {"choices": [], "usage": USED, "timings": {}},
    )
    assert [chunk["choices"][0]["delta"] for chunk in said[:-1]] == [
        {"role": "assistant", "content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert said[-1]["choices"] == []
    assert said[-1]["usage"] == USED
    head = {"id": "chatcmpl-a", "created": 7, "model": "org/name"}
    assert all(chunk.items() >= head.items() and "timings" not in chunk for chunk in said)
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}
    assert whole == head | {"object": "chat.completion", "choices": [choice], "usage": USED}


def test_usage_is_only_for_who_asked() -> None:
    said, whole = _read(_call(stream=True), _theirs({"content": "x"}, "stop"), {"choices": [], "usage": USED})
    assert [bool(chunk["choices"]) for chunk in said] == [True]
    assert whole["usage"] == USED


def test_the_last_chunk_of_a_completion_has_no_usage_in_it() -> None:
    theirs = {"choices": [{"text": "x", "index": 0, "finish_reason": "length"}], "usage": USED}
    said, whole = _read(_call(COMPLETIONS, stream=True, stream_options={"include_usage": True}), theirs)
    assert [sorted({"choices", "usage"} & set(chunk)) for chunk in said] == [
        ["choices"],
        ["choices", "usage"],
    ]
    assert whole["choices"][0]["text"] == "x"


def test_without_a_stream_nothing_is_said_before_the_end() -> None:
    said, whole = _read(_call(), _theirs({"content": "x"}, "stop"), {"choices": [], "usage": USED})
    assert not said
    assert whole["choices"][0]["message"]["content"] == "x"


def test_tool_calls_are_put_together() -> None:
    def piece(**function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "function": function}]}

    first = piece(name="weather", arguments="")
    first["tool_calls"][0] |= {"id": "call_1", "type": "function"}
    _, whole = _read(
        _call(),
        _theirs(first),
        _theirs(piece(arguments='{"city":')),
        _theirs(piece(arguments='"Oslo"}')),
        _theirs({}, "tool_calls"),
    )
    choice = whole["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert choice["message"]["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]


def test_log_probabilities_come_in_the_shape_of_their_path() -> None:
    tops = [{"id": 1, "token": "a", "logprob": -0.1, "bytes": [97]}, {"id": 2, "token": "b", "logprob": -2.0}]
    entry = tops[0] | {"top_logprobs": tops}
    _, whole = _read(_call(logprobs=True), _theirs({"content": "a"}, logprobs={"content": [entry]}))
    ours = {"token": "a", "logprob": -0.1, "bytes": [97]}
    assert whole["choices"][0]["logprobs"] == {"content": [ours | {"top_logprobs": []}]}

    pieces = [{"choices": [{"text": "a", "logprobs": {"content": [entry]}}]}] * 2
    _, whole = _read(_call(COMPLETIONS, logprobs=1), *pieces)
    assert whole["choices"][0]["logprobs"] == {
        "tokens": ["a", "a"],
        "token_logprobs": [-0.1, -0.1],
        "top_logprobs": [{"a": -0.1}, {"a": -0.1}],
        "text_offset": [0, 1],
    }
