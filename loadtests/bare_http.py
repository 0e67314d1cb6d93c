"""The bare endpoint: what one writes who only wants FastAPI to answer. Run as a process of its own.

It checks the body with pydantic and answers in OpenAI's shape with the last user message. One uvicorn
process, uvloop, httptools, no access log. No Kafka, no engine, no limits, no error table.
"""

import sys
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from loadtests.parent import stop_with_parent


class Message(BaseModel):
    """One chat message."""

    role: str
    content: str


class ChatRequest(BaseModel):
    """Body of `/v1/chat/completions`."""

    model: str
    messages: list[Message]
    stream: bool = False
    temperature: float | None = None
    max_tokens: int | None = None


app = FastAPI()


@app.post("/v1/chat/completions", response_model=None)
async def chat(body: ChatRequest) -> dict[str, Any] | StreamingResponse:
    """Answer with the last user message."""
    text = next((message.content for message in reversed(body.messages) if message.role == "user"), "")
    id_ = f"chatcmpl-{uuid.uuid4().hex}"
    created_s = int(time.time())
    if body.stream:
        head = {"id": id_, "object": "chat.completion.chunk", "created": created_s, "model": body.model}
        return StreamingResponse(_events(head, text), media_type="text/event-stream")
    words = len(text.split())
    return {
        "id": id_,
        "object": "chat.completion",
        "created": created_s,
        "model": body.model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": words, "completion_tokens": words, "total_tokens": 2 * words},
    }


async def _events(head: dict[str, Any], text: str) -> AsyncIterator[bytes]:
    words = text.split(" ")
    for number, word in enumerate(words, start=1):
        delta = {"content": f"{word} " if number < len(words) else word}
        yield _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield b"data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


if __name__ == "__main__":
    stop_with_parent()
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
