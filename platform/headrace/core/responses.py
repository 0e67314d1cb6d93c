"""The Responses API spoken by engines that know chats. Pure.

A request becomes a chat; the chat's chunks and its answer become the events and the Response. The numbers of
the events depend on nothing but the chunks, so that a stream that is read again has the same ones.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from headrace.contracts.responses import (
    CallItem,
    CallOutputItem,
    Item,
    MessageItem,
    NamedFunction,
    ResponseBody,
    blank,
)

_Chat = dict[str, Any]


def chat_body(body: ResponseBody) -> bytes:
    """The chat that asks for the same."""
    messages: list[_Chat] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    for item in body.items:
        _add(messages, item)
    chat: _Chat = {"model": body.model, "messages": messages, "stream": body.stream}
    chat |= {"temperature": body.temperature, "top_p": body.top_p, "user": body.user}
    chat |= {"max_completion_tokens": body.max_output_tokens, "service_tier": body.service_tier}
    if body.text.format.type != "text":
        chat["response_format"] = _format(body)
    if body.tools:
        chat["tools"] = [
            {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
            for tool in body.tools
        ]
        chat["tool_choice"] = _choice(body.tool_choice)
        chat["parallel_tool_calls"] = body.parallel_tool_calls
    return orjson.dumps({name: value for name, value in chat.items() if value is not None})


def _add(messages: list[_Chat], item: Item) -> None:
    if isinstance(item, MessageItem):
        messages.append({"role": item.role, "content": item.text})
    elif isinstance(item, CallItem):
        call = {
            "id": item.call_id,
            "type": "function",
            "function": {"name": item.name, "arguments": item.arguments},
        }
        last = messages[-1] if messages else {}
        if "tool_calls" in last:
            last["tool_calls"].append(call)  # several calls are one message
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif isinstance(item, CallOutputItem):
        messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.text})


def _choice(wanted: str | NamedFunction) -> Any:
    if isinstance(wanted, NamedFunction):
        return {"type": "function", "function": {"name": wanted.name}}
    return wanted


def _format(body: ResponseBody) -> _Chat:
    wanted = body.text.format
    if wanted.type == "json_object":
        return {"type": "json_object"}
    schema = {"name": wanted.name, "schema": wanted.json_schema or {}, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": schema}


class Responder:
    """Makes events and the Response of one run. Each event is the exact JSON of its `data`."""

    def __init__(self, request_id: str, asked: bytes, model: str, created_s: int) -> None:
        self._response = blank(request_id, asked, model, created_s)
        self._item_id = f"msg_{self._response['id'].removeprefix('resp_')}"
        self._sequence = 0
        self._has_begun = False
        self._has_message = False
        self._text = ""

    @classmethod
    def after(cls, sent: Sequence[bytes], whole: dict[str, Any]) -> "Responder":
        """One that has sent these events of the Response `whole`."""
        made = cls("", b"{}", "", 0)
        made._response = whole | {"status": "in_progress", "output": [], "usage": None, "completed_at": None}
        made._item_id = f"msg_{whole['id'].removeprefix('resp_')}"
        for event in map(orjson.loads, sent):
            made._sequence = event["sequence_number"] + 1
            made._has_begun = True
            made._has_message = made._has_message or event["type"] == "response.output_item.added"
            if event["type"] == "response.output_text.delta":
                made._text += event["delta"]
        return made

    def begin(self) -> Iterator[bytes]:
        """Before the first token."""
        self._has_begun = True
        self._response["status"] = "in_progress"
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self._response)

    def chunk(self, chat_chunk: bytes) -> Iterator[bytes]:
        """A chunk of the chat's stream."""
        choices = orjson.loads(chat_chunk).get("choices") or [{}]
        text = (choices[0].get("delta") or {}).get("content")
        if text:
            yield from self._say(text)

    def finish(self, chat_answer: bytes, now_s: int) -> tuple[list[bytes], bytes]:
        """The events behind the last chunk, and the whole Response."""
        chat = orjson.loads(chat_answer)
        choice = chat["choices"][0]
        message = choice["message"]
        whole = self._response | {"output": list(_output(self._item_id, message)), "usage": _usage(chat)}
        is_cut = choice.get("finish_reason") == "length"
        whole |= {
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "completed_at": None if is_cut else now_s,
        }
        return list(self.rest(whole)), orjson.dumps(whole)

    def rest(self, whole: dict[str, Any]) -> Iterator[bytes]:
        """The events that are still missing before the whole Response was told."""
        if not self._has_begun:
            yield from self.begin()
        for index, item in enumerate(whole["output"]):
            if item["type"] == "message":
                yield from self._end_message(index, item)
            else:
                yield from self._tell_item(index, item)
        yield self._event(f"response.{whole['status']}", response=whole)

    def _say(self, text: str) -> Iterator[bytes]:
        if not self._has_begun:
            yield from self.begin()
        if not self._has_message:
            self._has_message = True
            item = {"id": self._item_id, "type": "message", "status": "in_progress", "role": "assistant"}
            yield self._event("response.output_item.added", output_index=0, item=item | {"content": []})
            yield self._in_part("response.content_part.added", part=_part(""))
        self._text += text
        yield self._in_part("response.output_text.delta", delta=text, logprobs=[])

    def _end_message(self, index: int, item: dict[str, Any]) -> Iterator[bytes]:
        text = item["content"][0]["text"]
        if not self._has_message or text != self._text:
            yield from self._say(text[len(self._text) :])
        yield self._in_part("response.output_text.done", text=text, logprobs=[])
        yield self._in_part("response.content_part.done", part=item["content"][0])
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _tell_item(self, index: int, item: dict[str, Any]) -> Iterator[bytes]:
        """A function call or a thought, which engines give whole."""
        begun = item | {"status": "in_progress"} if "status" in item else item
        is_call = item["type"] == "function_call"
        begun = begun | {"arguments": ""} if is_call else begun
        yield self._event("response.output_item.added", output_index=index, item=begun)
        if is_call:
            place = {"item_id": item["id"], "output_index": index}
            said = item["arguments"]
            yield self._event("response.function_call_arguments.delta", delta=said, **place)
            yield self._event(
                "response.function_call_arguments.done", name=item["name"], arguments=said, **place
            )
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _in_part(self, kind: str, **more: Any) -> bytes:
        return self._event(kind, item_id=self._item_id, output_index=0, content_index=0, **more)

    def _event(self, kind: str, **more: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._sequence, **more}
        self._sequence += 1
        return orjson.dumps(event)


def _output(item_id: str, message: _Chat) -> Iterator[dict[str, Any]]:
    text, calls = message.get("content"), message.get("tool_calls") or []
    if text or not calls:
        yield {
            "id": item_id,
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [_part(text or "")],
        }
    for number, call in enumerate(calls):
        yield {
            "id": f"fc_{item_id.removeprefix('msg_')}_{number}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.get("id") or f"call_{number}",
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
        }
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought:
        yield {
            "id": f"rs_{item_id.removeprefix('msg_')}",
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": thought}],
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(chat: _Chat) -> dict[str, Any] | None:
    used = chat.get("usage")
    if not used:
        return None
    return {
        "input_tokens": used.get("prompt_tokens", 0),
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": used.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.get("total_tokens", 0),
    }
