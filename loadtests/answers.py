"""Questions that differ, and the check that every answer belongs to its question, once."""

import itertools
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

_WORDS: Final = "so that a reply of this arm can be told from every other reply"
_RUN: Final = uuid.uuid4().hex[:8]
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Question:
    """A request body whose last user message, `text`, no other request of any run has."""

    id: str
    text: str
    body: bytes


@dataclass(slots=True)
class Answer:
    """What came back for a question. Times in seconds; `first_s` until the first body bytes.

    copies: how often it came; HTTP cannot repeat one, Kafka can.
    failure: why there is no body, in words.
    """

    question: Question
    body: bytes | None
    latency_s: float = 0.0
    first_s: float = 0.0
    copies: int = 1
    failure: str | None = None


@dataclass(slots=True)
class Verdict:
    """How the answers of a round stand; all but `right` should be 0. `example` shows the first bad one."""

    asked: int = 0
    right: int = 0
    wrong: int = 0
    lost: int = 0
    repeated: int = 0
    example: str | None = None

    @property
    def is_clean(self) -> bool:
        """Whether every question has exactly its own answer."""
        return self.right == self.asked and not self.repeated

    def __iadd__(self, other: "Verdict") -> "Verdict":
        self.asked += other.asked
        self.right += other.right
        self.wrong += other.wrong
        self.lost += other.lost
        self.repeated += other.repeated
        self.example = self.example or other.example
        return self


def response_text(body: bytes) -> str:
    """The text of a chat completion."""
    return str(orjson.loads(body)["choices"][0]["message"]["content"])


@dataclass(frozen=True, slots=True)
class Shape:
    """What bodies an arm takes and where its answers hold the text."""

    model: str
    text_of: Callable[[bytes], str] = response_text
    stream: bool = False


def questions(count: int, shape: Shape) -> list[Question]:
    """`count` new questions, all of one length."""
    found = []
    for number in itertools.islice(_numbers, count):
        id_ = f"{_RUN}-{number:08}"
        text = f"{id_} {_WORDS}"
        content: dict[str, object] = {
            "model": shape.model,
            "messages": [
                {"role": "system", "content": "Repeat the user's words."},
                {"role": "user", "content": text},
            ],
        }
        if shape.stream:
            content["stream"] = True
        found.append(Question(id_, text, orjson.dumps(content)))
    return found


def request_text(body: bytes) -> str:
    """The last message of a request body, which the bare Kafka loop returns as it is."""
    return str(orjson.loads(body)["messages"][-1]["content"])


def stream_events(body: bytes) -> list[bytes]:
    """The data of each server-sent event, `[DONE]` included."""
    return [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]


def stream_text(body: bytes) -> str:
    """The joined text of a stream of chat completion chunks.

    Raises:
        ValueError: the stream does not end with `[DONE]`.
    """
    *chunks, last = stream_events(body) or [b""]
    if last != b"[DONE]":
        raise ValueError("the stream was cut off")
    choices = [orjson.loads(chunk)["choices"] for chunk in chunks]
    return "".join(choice["delta"].get("content") or "" for some in choices for choice in some)


def judge(asked: Sequence[Question], answers: Iterable[Answer], text_of: Callable[[bytes], str]) -> Verdict:
    """Compare answers with what was asked; a question without an answer is lost."""
    verdict = Verdict(asked=len(asked))
    missing = {question.id for question in asked}
    for answer in answers:
        verdict.repeated += answer.copies - 1
        if answer.question.id not in missing:
            verdict.repeated += 1
            continue
        missing.remove(answer.question.id)
        if answer.body is None:
            verdict.lost += 1
            verdict.example = verdict.example or answer.failure
        elif (text := _read(text_of, answer.body)) == answer.question.text:
            verdict.right += 1
        else:
            verdict.wrong += 1
            verdict.example = verdict.example or f"asked {answer.question.text!r}, got {text!r}"
    verdict.lost += len(missing)
    return verdict


def _read(text_of: Callable[[bytes], str], body: bytes) -> str:
    try:
        return text_of(body)
    except (ValueError, LookupError, TypeError) as error:
        return f"{error!r} in {body[:200]!r}"
