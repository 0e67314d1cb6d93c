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


@dataclass(frozen=True, slots=True)
class Step:
    """What to send on now. `ended`: nothing comes after it. `broken`: it ended, and says why."""

    values: Sequence[bytes] = ()
    ended: bool = False
    broken: str | None = None


NOTHING = Step()


class Reassembly:
    """One stream. `take` is called with every reply record in the order of arrival."""

    def __init__(self) -> None:
        self._run: tuple[int, int, str] | None = None
        self._early: dict[int, bytes] = {}
        self._sent: list[bytes] = []
        self._next = 0

    def take(self, head: ReplyHead, value: bytes) -> Step:
        """Take one record."""
        run = _run(head)
        if self._run is not None and run != self._run:
            if run < self._run:
                return NOTHING
            if self._sent:
                return Step(ended=True, broken="The request was started anew elsewhere; ask again")
            self._early.clear()
            self._next = 0
        self._run = run
        return self._chunk(head, value) if head.state is None else self._final(head, value)

    def _chunk(self, head: ReplyHead, value: bytes) -> Step:
        if head.sequence < self._next or head.sequence in self._early:
            return NOTHING
        self._early[head.sequence] = value
        return Step(self._ready())

    def _ready(self) -> list[bytes]:
        values = []
        while self._next in self._early:
            values.append(self._early.pop(self._next))
            self._next += 1
        self._sent += values
        return values

    def _final(self, head: ReplyHead, value: bytes) -> Step:
        if head.state not in (State.COMPLETED, State.INCOMPLETE):
            return Step(ended=True)
        if self._next >= head.sequence:
            return Step(ended=True)
        rest = missing(self._sent, value)
        if rest is None:
            return Step(ended=True, broken="Part of the answer was lost on its way; ask again")
        return Step(rest, ended=True)


def missing(sent: Sequence[bytes], whole: bytes) -> list[bytes] | None:
    """Chunks that bring a caller who got `sent` to the `whole` answer; None when that cannot be done.

    It can for one choice of plain text, which is what nearly every stream is.
    """
    answer: dict[str, Any] = orjson.loads(whole)
    choices = answer.get("choices") or []
    if len(choices) != 1 or (choices[0].get("message") or {}).get("tool_calls"):
        return None
    chat = "message" in choices[0]
    text = (choices[0]["message"].get("content") or "") if chat else choices[0].get("text") or ""
    seen = "".join(_text(chunk) for chunk in sent)
    if not text.startswith(seen):
        return None
    delta: dict[str, Any] = {"delta": {"content": text[len(seen) :]}} if chat else {"text": text[len(seen) :]}
    kind = "chat.completion.chunk" if chat else "text_completion"
    head = {"id": answer["id"], "created": answer["created"], "model": answer["model"], "object": kind}
    choice = {"index": 0, "finish_reason": choices[0]["finish_reason"], **delta}
    return [orjson.dumps(head | {"choices": [choice]})]


def _text(chunk: bytes) -> str:
    choices = orjson.loads(chunk).get("choices") or [{}]
    return (choices[0].get("delta") or {}).get("content") or choices[0].get("text") or ""


def _run(head: ReplyHead) -> tuple[int, int, str]:
    generation, _, worker = head.run.partition(":")
    return head.attempt, int(generation) if generation.lstrip("-").isdigit() else -1, worker
