"""Puts the chunks of a stream together into the whole response. Pure."""

from collections.abc import Mapping
from typing import Any

from headrace.contracts.requests import CHAT

_TEXT_FIELDS = ("content", "reasoning_content", "refusal")


class Merger:
    """Takes OpenAI chunks in order; `response` is what the engine would have answered without streaming."""

    def __init__(self, path: str) -> None:
        self._chat = path == CHAT
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: dict[str, Any] | None = None

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take one chunk."""
        self._head = {"id": chunk["id"], "created": chunk["created"], "model": chunk["model"]}
        self._usage = chunk.get("usage") or self._usage
        for piece in chunk.get("choices", ()):
            choice = self._choices.setdefault(piece.get("index", 0), self._empty(piece.get("index", 0)))
            if piece.get("finish_reason"):
                choice["finish_reason"] = piece["finish_reason"]
            if piece.get("logprobs"):
                _add_logprobs(choice, piece["logprobs"])
            if self._chat:
                _add_delta(choice["message"], piece.get("delta") or {})
            else:
                choice["text"] += piece.get("text") or ""

    @property
    def incomplete(self) -> bool:
        """Whether a choice was cut short."""
        return any(choice["finish_reason"] == "length" for choice in self._choices.values())

    def response(self) -> dict[str, Any]:
        """The whole."""
        kind = "chat.completion" if self._chat else "text_completion"
        choices = [self._choices[index] for index in sorted(self._choices)]
        return self._head | {"object": kind, "choices": choices, "usage": self._usage}

    def _empty(self, index: int) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "finish_reason": None, "logprobs": None}
        if self._chat:
            return choice | {"message": {"role": "assistant", "content": None, "refusal": None}}
        return choice | {"text": ""}


def _add_delta(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name in _TEXT_FIELDS:
        if delta.get(name) is not None:
            message[name] = (message.get(name) or "") + delta[name]
    for piece in delta.get("tool_calls") or ():
        _add_tool_call(message.setdefault("tool_calls", []), piece)


def _add_tool_call(calls: list[dict[str, Any]], piece: Mapping[str, Any]) -> None:
    index = piece.get("index", len(calls))
    while len(calls) <= index:
        calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[index], piece.get("function") or {}
    if piece.get("id"):
        call["id"] = piece["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _add_logprobs(choice: dict[str, Any], piece: Mapping[str, Any]) -> None:
    if choice["logprobs"] is None:
        choice["logprobs"] = {}
    for name, values in piece.items():
        if isinstance(values, list):
            choice["logprobs"].setdefault(name, []).extend(values)
