"""OpenAI's chat and completion shapes: what we check before a request is queued, and what engines answer.

Only what every engine must understand is checked. Fields that are not named here pass through untouched,
because the engine may know them.
Source: the OpenAI API reference for `/v1/chat/completions` and `/v1/completions`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts.requests import CHAT


class _Body(BaseModel):
    # Not strict: OpenAI accepts 1.0 for 1. Unknown fields are the engine's business.
    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = None
    stream: bool | None = None
    stream_options: "StreamOptions | None" = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    user: str | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream ends with a chunk that has `usage` and no choices."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class StreamOptions(BaseModel):
    """`stream_options` of a streamed request."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    include_usage: bool | None = None


class ChatMessage(BaseModel):
    """One message. Content is text, a list of parts, or nothing (an assistant's tool call)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The text of the content, parts joined."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")


class ChatBody(_Body):
    """Body of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def token_limit(self) -> int | None:
        """Tokens to generate at most; the newer name wins."""
        return self.max_completion_tokens or self.max_tokens


class CompletionBody(_Body):
    """Body of `/v1/completions`."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None

    @property
    def token_limit(self) -> int | None:
        """Tokens to generate at most."""
        return self.max_tokens


def response_id(request_id: str, path: str) -> str:
    """The id of the response to a request, in OpenAI's spelling."""
    return f"{'chatcmpl' if path == CHAT else 'cmpl'}-{request_id.removeprefix('req_')}"


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """A `usage` object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class Shape:
    """Builds the responses to one request: `response` for the whole, `chunk` for a piece of a stream."""

    def __init__(self, *, request_id: str, path: str, model: str, created_s: int) -> None:
        self._chat = path == CHAT
        object_ = "chat.completion" if self._chat else "text_completion"
        self._head = {
            "id": response_id(request_id, path),
            "object": object_,
            "created": created_s,
            "model": model,
        }
        self._chunk_head = self._head | {"object": "chat.completion.chunk"} if self._chat else self._head

    def response(self, text: str, finish_reason: str, used: Mapping[str, int]) -> dict[str, Any]:
        """The whole answer, with one choice."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason, "logprobs": None}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return self._head | {"choices": [choice], "usage": dict(used)}

    def chunk(
        self, text: str | None, finish_reason: str | None = None, *, first: bool = False
    ) -> dict[str, Any]:
        """A piece of the answer; `text` None is a chunk without content (the last one)."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason, "logprobs": None}
        if self._chat:
            delta: dict[str, Any] = {"role": "assistant"} if first else {}
            choice["delta"] = delta if text is None else delta | {"content": text}
        else:
            choice["text"] = text or ""
        return self._chunk_head | {"choices": [choice]}

    def usage_chunk(self, used: Mapping[str, int]) -> dict[str, Any]:
        """The chunk that `stream_options.include_usage` asks for, after the last choice."""
        return self._chunk_head | {"choices": [], "usage": dict(used)}
