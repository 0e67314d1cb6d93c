"""A stream put together from reply records: in order, nothing twice, one run only.

Chunks of one run are numbered from 0; the final record says how many there were and carries the whole
answer. A newer run (a redelivery) starts over: when the caller has seen nothing yet that is invisible, else
the stream ends with an error, because two runs need not say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.contracts.replies import ReplyHead
from headrace.contracts.states import State
from headrace.core.responses import Responder


@dataclass(frozen=True, slots=True)
class Step:
    """What to send on now. `ended`: nothing comes after it. `broken`: it ended, and says why."""

    values: Sequence[bytes] = ()
    ended: bool = False
    broken: str | None = None


NOTHING = Step()
_ENDED = Step(ended=True)


class Reassembly:
    """One stream. `take` is called with every reply record in the order of arrival.

    usage: the caller asked for a last chunk with `usage`.
    """

    def __init__(self, *, usage: bool = False) -> None:
        self._usage = usage
        self._run: str | None = None
        self._rank = (0, 0, "")
        self._early: dict[int, bytes] = {}
        self._sent: list[bytes] = []

    def take(self, head: ReplyHead, value: bytes) -> Step:
        """Take one record."""
        if head.run != self._run or head.attempt != self._rank[0]:
            found = rank(head)
            if found < self._rank:
                return NOTHING
            if self._sent:
                return Step(ended=True, broken="The request was started anew elsewhere; ask again")
            self._early.clear()
            self._run, self._rank = head.run, found
        return self._chunk(head.sequence, value) if head.state is None else self._final(head, value)

    def needs_whole(self, head: ReplyHead) -> bool:
        """Whether `take` would look into the value of this final record."""
        has_all = head.run == self._run and self._sent and len(self._sent) >= head.sequence
        return head.state in (State.COMPLETED, State.INCOMPLETE) and not has_all

    def _chunk(self, sequence: int, value: bytes) -> Step:
        expected = len(self._sent)
        if sequence == expected and not self._early:
            self._sent.append(value)
            return Step((value,))
        if sequence < expected:
            return NOTHING
        self._early.setdefault(sequence, value)
        values: list[bytes] = []
        while (ready := self._early.pop(expected + len(values), None)) is not None:
            values.append(ready)
        self._sent += values
        return Step(values)

    def _final(self, head: ReplyHead, value: bytes) -> Step:
        if head.state not in (State.COMPLETED, State.INCOMPLETE):
            return _ENDED
        if self._sent and len(self._sent) >= head.sequence:
            return _ENDED
        try:
            rest = missing(self._sent, value, usage=self._usage)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            rest = None  # an engine of a caller's own may answer in a shape that cannot be cut into chunks
        if rest is None:
            return Step(ended=True, broken="Part of the answer was lost on its way; ask again")
        return Step(rest, ended=True)


def missing(sent: Sequence[bytes], whole: bytes, *, usage: bool = False) -> list[bytes] | None:
    """Chunks that bring a caller who got `sent` to the `whole` answer; None when that cannot be done.

    It can for one choice of plain text, which is what nearly every stream is, and for predictions.
    """
    answer: dict[str, Any] = orjson.loads(whole)
    if answer["object"] == "prediction":
        return _missing_output(sent, answer)
    if answer["object"] == "response":
        return _missing_events(sent, answer)
    choices = answer["choices"]
    if len(choices) != 1:
        return None
    chat = "message" in choices[0]
    if chat and choices[0]["message"].get("tool_calls"):
        return None
    text = (choices[0]["message"].get("content") if chat else choices[0].get("text")) or ""
    seen = "".join(_text(chunk) for chunk in sent)
    if not text.startswith(seen):
        return None
    head = {
        "id": answer["id"],
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": answer["created"],
        "model": answer["model"],
    }
    rest = text[len(seen) :]
    delta: dict[str, Any] = {"text": rest}
    if chat:
        delta = {"delta": {"content": rest} if sent else {"role": "assistant", "content": rest}}
    choice = {"index": 0, "finish_reason": choices[0]["finish_reason"], "logprobs": None, **delta}
    chunks = [head | {"choices": [choice]}]
    if usage:
        chunks.append(head | {"choices": [], "usage": answer["usage"]})
    return [orjson.dumps(chunk) for chunk in chunks]


def _missing_events(sent: Sequence[bytes], answer: dict[str, Any]) -> list[bytes] | None:
    said = [orjson.loads(event) for event in sent]
    text = "".join(event["delta"] for event in said if event["type"] == "response.output_text.delta")
    whole = "".join(
        part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"]
    )
    if not whole.startswith(text) or any(event["type"].endswith(".done") for event in said):
        return None
    return list(Responder.after(sent, answer).rest(answer))


def _missing_output(sent: Sequence[bytes], answer: dict[str, Any]) -> list[bytes] | None:
    output = answer["output"]
    seen: list[Any] = [orjson.loads(chunk)["output"] for chunk in sent]
    head = answer | {"object": "prediction.chunk"}
    if isinstance(output, str):
        text = "".join(seen)
        return [orjson.dumps(head | {"output": output[len(text) :]})] if output.startswith(text) else None
    if not isinstance(output, list):
        return None if sent else [orjson.dumps(head)]
    if output[: len(seen)] != seen:
        return None
    return [orjson.dumps(head | {"output": piece}) for piece in output[len(seen) :]]


def _text(chunk: bytes) -> str:
    choices = orjson.loads(chunk).get("choices") or [{}]
    return (choices[0].get("delta") or {}).get("content") or choices[0].get("text") or ""


def rank(head: ReplyHead) -> tuple[int, int, str]:
    """Orders runs: later attempts, then later generations of the group, are newer."""
    generation, _, worker = head.run.partition(":")
    return head.attempt, int(generation) if generation.isdecimal() else -1, worker
