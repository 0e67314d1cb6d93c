"""vLLM's answers as OpenAI's: our id, model and time, and no field of vLLM's own. Pure.

One field is not OpenAI's: a model's reasoning is `reasoning_content`, as other engines name it; vLLM says
`reasoning`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from headrace.contracts.openai import ChatBody, response_id
from headrace.contracts.requests import CHAT
from headrace.core.ports import Call, Final
from headrace.engines.merging import Merger
from headrace.engines.single import check_single


class Answer:
    """The answer to one call: `whole` of vLLM's response, or `chunk` by chunk and then `merged`."""

    def __init__(self, call: Call) -> None:
        body = check_single(call.body)
        self._chat = call.path == CHAT
        self._wants_usage = body.wants_usage_chunk
        self._top_logprobs = 0 if isinstance(body, ChatBody) else body.logprobs or 0
        self._is_first = True
        self._merger = Merger(call.path)
        self._head = {
            "id": response_id(call.id, call.path),
            "object": "chat.completion" if self._chat else "text_completion",
            "created": call.created_s,
            "model": call.model,
        }
        self._chunk_head = self._head | {"object": "chat.completion.chunk"} if self._chat else self._head

    def whole(self, theirs: Mapping[str, Any]) -> Final:
        """The response to a call that wants no stream."""
        (choice,) = theirs["choices"]
        ours = self._choice(choice)
        if self._chat:
            ours["message"] = {"content": None, "refusal": None} | _said(choice["message"])
        else:
            ours["text"] = choice["text"]
        body = self._head | {"choices": [ours], "usage": _usage(theirs["usage"])}
        return Final(orjson.dumps(body), incomplete=ours["finish_reason"] == "length")

    def chunk(self, theirs: Mapping[str, Any]) -> list[bytes]:
        """The chunks for the caller that one of vLLM's makes; those that say nothing make none."""
        ours = [self._chunk_head | piece for piece in self._pieces(theirs)]
        for piece in ours:
            self._merger.add(piece)
        return [orjson.dumps(piece) for piece in ours if piece["choices"] or self._wants_usage]

    def merged(self) -> Final:
        """All chunks together, when there are no more."""
        return Final(orjson.dumps(self._merger.response()), incomplete=self._merger.incomplete)

    def _pieces(self, theirs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for choice in theirs.get("choices", ()):
            ours = self._choice(choice)
            if self._chat:
                delta = _said(choice["delta"])
                delta.pop("role", None)
                if not any(delta.values()) and ours["finish_reason"] is None and ours["logprobs"] is None:
                    continue
                ours["delta"] = {"role": "assistant"} | delta if self._is_first else delta
            else:
                ours["text"] = choice.get("text") or ""
            self._is_first = False
            yield {"choices": [ours]}
        if theirs.get("usage"):
            yield {"choices": [], "usage": _usage(theirs["usage"])}

    def _choice(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        logprobs = theirs.get("logprobs")
        if logprobs is not None:
            logprobs = self._logprobs(logprobs)
        return {"index": 0, "finish_reason": theirs.get("finish_reason"), "logprobs": logprobs}

    def _logprobs(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        if self._chat:
            return {"content": [_token(entry) for entry in theirs["content"]]}
        # vLLM adds the chosen token where it is not among the best.
        best = [_best(tops, self._top_logprobs) for tops in theirs["top_logprobs"]]
        return {
            "tokens": theirs["tokens"],
            "token_logprobs": theirs["token_logprobs"],
            "top_logprobs": best,
            "text_offset": theirs["text_offset"],
        }


def _said(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message or a delta that say something."""
    ours: dict[str, Any] = {}
    if theirs.get("role"):
        ours["role"] = theirs["role"]
    if theirs.get("content") is not None:
        ours["content"] = theirs["content"]
    if theirs.get("reasoning"):
        ours["reasoning_content"] = theirs["reasoning"]
    if theirs.get("tool_calls"):
        ours["tool_calls"] = [_without_nulls(item) for item in theirs["tool_calls"]]
    return ours


def _without_nulls(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in item.items()
        if value is not None
    }


def _usage(theirs: Mapping[str, Any]) -> dict[str, Any]:
    return _without_nulls(theirs)


def _token(theirs: Mapping[str, Any]) -> dict[str, Any]:
    ours = {"token": theirs["token"], "logprob": theirs["logprob"], "bytes": theirs.get("bytes")}
    if "top_logprobs" in theirs:
        ours["top_logprobs"] = [_token(top) for top in theirs["top_logprobs"]]
    return ours


def _best(tops: Mapping[str, float] | None, number: int) -> dict[str, float] | None:
    if tops is None:  # of the first token of a prompt that is repeated
        return None
    best = sorted(tops.items(), key=lambda item: item[1], reverse=True)
    return dict(best[:number])
