"""The judge must not call a mixed-up run clean."""

import orjson
import pytest
from loadtests.answers import (
    Answer,
    Question,
    Shape,
    judge,
    questions,
    request_text,
    response_text,
    stream_text,
)

SHAPE = Shape("echo")


def body(text: str) -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": text}}]})


def right(question: Question) -> Answer:
    return Answer(question, body(question.text))


def chunk(text: str) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"delta": {"content": text}}]}) + b"\n\n"


def test_questions_differ_and_say_what_they_ask() -> None:
    asked = questions(50, SHAPE) + questions(50, SHAPE)

    assert len({one.id for one in asked}) == len({one.text for one in asked}) == 100
    assert len({len(one.body) for one in asked}) == 1
    assert all(request_text(one.body) == one.text for one in asked)
    assert "stream" not in orjson.loads(asked[0].body)
    assert orjson.loads(questions(1, Shape("m", stream=True))[0].body)["stream"] is True


def test_a_clean_run() -> None:
    asked = questions(3, SHAPE)

    verdict = judge(asked, [right(one) for one in reversed(asked)], response_text)

    assert (verdict.asked, verdict.right, verdict.is_clean) == (3, 3, True)


def test_swapped_answers_are_wrong() -> None:
    first, second = questions(2, SHAPE)
    swapped = [Answer(first, body(second.text)), Answer(second, body(first.text))]

    verdict = judge([first, second], swapped, response_text)

    assert (verdict.right, verdict.wrong, verdict.is_clean) == (0, 2, False)
    assert verdict.example is not None
    assert second.text in verdict.example


def test_missing_and_failed_answers_are_lost() -> None:
    first, second, third = questions(3, SHAPE)

    verdict = judge(
        [first, second, third], [right(first), Answer(second, None, failure="HTTP 503")], response_text
    )

    assert (verdict.right, verdict.lost, verdict.example) == (1, 2, "HTTP 503")
    assert not verdict.is_clean


def test_repeated_answers_are_counted() -> None:
    (one,) = questions(1, SHAPE)

    verdict = judge([one], [right(one), right(one)], response_text)

    assert (verdict.right, verdict.repeated, verdict.is_clean) == (1, 1, False)


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"null", b'{"choices":[]}'])
def test_bodies_that_are_no_answers_are_wrong(value: bytes) -> None:
    (one,) = questions(1, SHAPE)

    assert judge([one], [Answer(one, value)], response_text).wrong == 1


def test_a_stream_is_joined_and_must_be_whole() -> None:
    usage = b'data: {"choices":[]}\n\n'
    whole = b": comment\n\n" + chunk("one ") + chunk("two") + usage + b"data: [DONE]\n\n"

    assert stream_text(whole) == "one two"
    with pytest.raises(ValueError, match="cut off"):
        stream_text(whole.removesuffix(b"data: [DONE]\n\n"))
    with pytest.raises(ValueError, match="cut off"):
        stream_text(b"")
