"""Streams out of reply records: order, repeats, gaps, restarts."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.openai import Shape, usage
from headrace.contracts.replies import ReplyHead
from headrace.contracts.requests import CHAT, COMPLETIONS
from headrace.contracts.states import State
from headrace.core.reassembly import NOTHING, Reassembly, missing

USED = usage(3, 4)
WORDS = ["one ", "two ", "three ", "four"]


class Answer:
    """An answer as an engine gives it: chunks (the last has the finish reason) and the whole."""

    def __init__(self, path=CHAT, words=WORDS, *, with_usage=False):
        shape = Shape(request_id="req_1", path=path, model="m", created_s=7)
        chunks = [shape.chunk(word, first=index == 0) for index, word in enumerate(words)]
        chunks.append(shape.chunk(None, "stop", first=not words))
        if with_usage:
            chunks.append(shape.usage_chunk(USED))
        self.chunks = [orjson.dumps(chunk) for chunk in chunks]
        self.whole = orjson.dumps(shape.response("".join(words), "stop", USED))


def head(sequence, state=None, *, run="1:w", attempt=1):
    return ReplyHead("req_1", state, "/workers/w", sequence=sequence, run=run, attempt=attempt)


def final(answer, **more):
    return head(len(answer.chunks), State.COMPLETED, **more), answer.whole


def text_of(values):
    text, role, reason, used = "", None, None, None
    for value in values:
        chunk = orjson.loads(value)
        used = chunk.get("usage") or used
        for choice in chunk["choices"]:
            delta = choice.get("delta", {})
            role = delta.get("role", role)
            text += (delta.get("content") if "delta" in choice else choice["text"]) or ""
            reason = choice["finish_reason"] or reason
    return text, role, reason, used


def test_chunks_in_order_pass_at_once():
    answer, stream = Answer(), Reassembly()
    for sequence, chunk in enumerate(answer.chunks):
        step = stream.take(head(sequence), chunk)
        assert (list(step.values), step.ended) == ([chunk], False)
    last = stream.take(*final(answer))
    assert (list(last.values), last.ended, last.broken) == ([], True, None)


@given(st.lists(st.integers(0, 4), max_size=30))
def test_whatever_comes_in_whatever_order_the_caller_reads_the_same_text(order):
    answer, stream = Answer(), Reassembly()
    got = []
    for sequence in order:
        step = stream.take(head(sequence), answer.chunks[sequence])
        got += step.values
        assert not step.ended
    assert got == answer.chunks[: len(got)]  # in order, nothing twice
    last = stream.take(*final(answer))
    assert last.ended
    assert last.broken is None
    assert text_of([*got, *last.values]) == ("one two three four", "assistant", "stop", None)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("lost", range(6))
def test_a_lost_chunk_is_made_good_from_the_whole_answer(path, lost):
    answer, stream = Answer(path, with_usage=True), Reassembly(usage=True)
    got = []
    for sequence, chunk in enumerate(answer.chunks):
        if sequence != lost:
            got += stream.take(head(sequence), chunk).values
    last = stream.take(*final(answer))
    assert last.ended
    role = "assistant" if path == CHAT else None
    assert text_of([*got, *last.values]) == ("one two three four", role, "stop", USED)


def test_a_stream_without_any_chunk_is_made_from_the_whole_answer():
    answer = Answer()
    step = Reassembly().take(head(0, State.COMPLETED), answer.whole)
    assert text_of(step.values) == ("one two three four", "assistant", "stop", None)
    assert step.ended


def test_a_newer_run_starts_over_unseen_while_nothing_was_sent():
    answer, stream = Answer(), Reassembly()
    assert not stream.take(head(1), b"of the old run").values
    got = [value for n in (0, 1) for value in stream.take(head(n, run="2:v"), answer.chunks[n]).values]
    assert got == answer.chunks[:2]


def test_a_newer_run_ends_a_stream_that_has_begun():
    answer, stream = Answer(), Reassembly()
    stream.take(head(0), answer.chunks[0])
    step = stream.take(head(0, run="2:v"), answer.chunks[0])
    assert step.ended
    assert "ask again" in step.broken


@pytest.mark.parametrize(("run", "attempt"), [("1:w", 1), ("9:w", 1), ("12:a", 1)])
def test_an_older_run_says_nothing(run, attempt):
    stream = Reassembly()
    stream.take(head(0, run="2:v", attempt=2), Answer().chunks[0])
    assert stream.take(head(1, run=run, attempt=attempt), b"late") == NOTHING
    assert stream.take(head(1, State.COMPLETED, run=run, attempt=attempt), b"late") == NOTHING


def test_generations_are_compared_as_numbers():
    stream = Reassembly()
    stream.take(head(0, run="9:w"), Answer().chunks[0])
    assert stream.take(head(0, run="10:w"), Answer().chunks[0]).ended


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.EXPIRED])
def test_an_error_ends_the_stream_as_it_is(state):
    stream = Reassembly()
    stream.take(head(0), Answer().chunks[0])
    step = stream.take(head(1, state), b'{"error":{}}')
    assert (list(step.values), step.ended, step.broken) == ([], True, None)


@pytest.mark.parametrize(
    "whole",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{"index":0},{"index":1}]}',
        b'{"choices":[{"message":{"tool_calls":[{}]}}]}',
        b'{"choices":[{"message":null}]}',
        b'{"id":"i","created":1,"model":"m","choices":[{"text":"something else","finish_reason":"stop"}]}',
    ],
)
def test_a_gap_that_cannot_be_closed_is_told(whole):
    stream = Reassembly()
    stream.take(head(0), Answer(COMPLETIONS).chunks[0])
    step = stream.take(head(3, State.COMPLETED), whole)
    assert step.ended
    assert "lost" in step.broken


def test_what_was_sent_must_be_the_beginning_of_the_whole():
    assert missing([Answer().chunks[1]], Answer().whole) is None


def prediction(output, chunk=False):
    kind = "prediction.chunk" if chunk else "prediction"
    return orjson.dumps({"id": "pred-1", "object": kind, "created": 1, "model": "f", "output": output})


@pytest.mark.parametrize(
    ("sent", "output", "rest"),
    [
        (["a"], "abc", ["bc"]),
        ([], "abc", ["abc"]),
        ([1], [1, 2, 3], [2, 3]),
        ([], {"a": 1}, [{"a": 1}]),
        (["x"], "abc", None),
        ([2], [1, 2], None),
        ([1], {"a": 1}, None),
    ],
)
def test_what_was_lost_of_a_prediction(sent, output, rest):
    found = missing([prediction(piece, chunk=True) for piece in sent], prediction(output))
    expected = None if rest is None else [prediction(piece, chunk=True) for piece in rest]
    assert found == expected
