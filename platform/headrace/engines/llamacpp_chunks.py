"""llama.cpp's chunks as OpenAI's: our id, model and time, one usage chunk, no field of its own. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from headrace.contracts.openai import ChatBody, response_id
from headrace.contracts.requests import CHAT
from headrace.core.ports import Call
from headrace.engines.merging import Merger
from headrace.engines.single import check_single


class ChunkReader:
    """Reads one generation, chunk by chunk; `whole` puts it together."""

    def __init__(self, call: Call) -> None:
        self._chat = call.path == CHAT
        self._streaming = bool(call.body.stream)
        self._wants_usage = call.body.wants_usage_chunk
        self._first = True
        self._text_chars = 0
        body = check_single(call.body)
        asked = body.top_logprobs if isinstance(body, ChatBody) else body.logprobs
        self._top_logprobs = asked or 0
        self._head = {
            "id": response_id(call.id, call.path),
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": call.created_s,
            "model": call.model,
        }
        self.whole = Merger(call.path)

    def read(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """Take one chunk; returns those for the caller, which are none when no stream was asked for."""
        ours = [self._head | piece for piece in self._pieces(chunk)]
        for piece in ours:
            self.whole.add(piece)
        return [orjson.dumps(piece) for piece in ours if self._is_for_caller(piece)]

    def _is_for_caller(self, piece: Mapping[str, Any]) -> bool:
        return self._streaming and (bool(piece["choices"]) or self._wants_usage)

    def _pieces(self, chunk: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if "prompt_progress" in chunk:
            return
        choices = [choice for choice in map(self._choice, chunk.get("choices", ())) if choice is not None]
        if choices:
            yield {"choices": choices}
        if chunk.get("usage"):
            yield {"choices": [], "usage": chunk["usage"]}

    def _choice(self, theirs: Mapping[str, Any]) -> dict[str, Any] | None:
        """The choice in OpenAI's shape, or None when it says nothing."""
        reason = theirs.get("finish_reason")
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        logprobs = (theirs.get("logprobs") or {}).get("content") or []
        if self._chat:
            delta = {name: value for name, value in theirs.get("delta", {}).items() if value is not None}
            delta.pop("role", None)
            if not delta and reason is None:
                return None
            choice["delta"] = {"role": "assistant"} | delta if self._first else delta
            if logprobs:
                choice["logprobs"] = {"content": [self._chat_logprob(entry) for entry in logprobs]}
        else:
            choice["text"] = theirs.get("text") or ""
            if logprobs:
                choice["logprobs"] = self._completion_logprobs(logprobs)
            self._text_chars += len(choice["text"])
        self._first = False
        return choice

    def _chat_logprob(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        tops = entry.get("top_logprobs", ())[: self._top_logprobs]
        return _token(entry) | {"top_logprobs": [_token(top) for top in tops]}

    def _completion_logprobs(self, entries: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """The older shape of `/v1/completions`."""
        offsets, offset = [], self._text_chars
        for entry in entries:
            offsets.append(offset)
            offset += len(entry["token"])
        return {
            "tokens": [entry["token"] for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": [
                {top["token"]: top["logprob"] for top in entry.get("top_logprobs", ())[: self._top_logprobs]}
                for entry in entries
            ],
            "text_offset": offsets,
        }


def _token(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": entry["token"], "logprob": entry["logprob"], "bytes": entry.get("bytes")}
