"""OpenAI's Responses API: the request body that we check, and the Response object.

Source: the OpenAI API reference for `/v1/responses`, and the models of openai-python, which judge our shapes
in tests. What no engine of ours could do is refused and named; unknown fields are ignored.
"""

from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from headrace.contracts import ids

OBJECT: Final = "response"
PREFIX: Final = "resp_"
MAX_PAIRS: Final = 16

SHAPES: Final = {
    "input": "a string, or a list of items: messages of text, function_call and function_call_output",
    "tools": 'a list of functions such as {"type": "function", "name": "f", "parameters": {}}',
    "tool_choice": 'auto, none, required, or {"type": "function", "name": "f"}',
}
"""Fields whose form no single rule describes."""

MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class TextPart(_Part):
    """A piece of a message's content."""

    type: Literal["input_text", "output_text", "refusal"]
    text: str = ""
    refusal: str = ""


class MessageItem(_Part):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """Its text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or part.refusal for part in self.content)


class CallItem(_Part):
    """A function call that the model has made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class CallOutputItem(_Part):
    """What the function gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[TextPart]

    @property
    def text(self) -> str:
        """Its text."""
        return self.output if isinstance(self.output, str) else "".join(part.text for part in self.output)


class ReasoningItem(_Part):
    """What a model has thought; it is not given back to it."""

    type: Literal["reasoning"]


Item = MessageItem | CallItem | CallOutputItem | ReasoningItem


class TextFormat(_Part):
    """`text.format`."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = "answer"
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextSettings(_Part):
    """`text`."""

    format: TextFormat = TextFormat()


class FunctionTool(_Part):
    """A function that the model may call; other tools would run at OpenAI."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(_Part):
    """`tool_choice` that names a function."""

    type: Literal["function"]
    name: str


class ResponseBody(_Part):
    """Body of `/v1/responses`."""

    model: str | None = None
    input: str | Annotated[list[Item], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_PAIRS)] | None = None
    previous_response_id: str | None = None
    text: TextSettings = TextSettings()
    tools: list[FunctionTool] = []
    tool_choice: Literal["auto", "none", "required"] | NamedFunction = "auto"
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _background_is_stored(self) -> "ResponseBody":
        if self.background and self.store is False:
            raise ValueError("'background' needs 'store': its answer is fetched later")
        return self

    @property
    def is_stored(self) -> bool:
        """Whether it can be fetched later, which is the default."""
        return self.store is not False

    @property
    def token_limit(self) -> int | None:
        """Tokens to generate at most."""
        return self.max_output_tokens

    @property
    def wants_usage_chunk(self) -> bool:
        """Never: the last event has the usage."""
        return False

    @property
    def items(self) -> list[Item]:
        """The input as items."""
        return [MessageItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input


def response_id(request_id: str) -> str:
    """The id of the response to a request."""
    return f"{PREFIX}{request_id.removeprefix(ids.PREFIX)}"


def request_id(response_id: str) -> str:
    """The request that a response is of."""
    return f"{ids.PREFIX}{response_id.removeprefix(PREFIX)}"


def blank(request_id: str, body: bytes | None, model: str, created_s: int) -> dict[str, Any]:
    """A Response without an answer, as far as its request is known."""
    asked: dict[str, Any] = {} if body is None else orjson.loads(body)
    return {
        "id": response_id(request_id),
        "object": OBJECT,
        "created_at": created_s,
        "status": "queued",
        "background": bool(asked.get("background")),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": asked.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "previous_response_id": asked.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": asked.get("service_tier") or "default",
        "store": asked.get("store") is not False,
        "temperature": _or(asked.get("temperature"), 1.0),
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "top_logprobs": 0,
        "top_p": _or(asked.get("top_p"), 1.0),
        "truncation": asked.get("truncation") or "disabled",
        "usage": None,
        "user": asked.get("user"),
    }


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
