"""An engine without a model: answers with the last user message. For tests and load tests.

It can play a batched LLM: `slots` requests advance together, one token each, in steps of `token_ms`.
Tokens are words with the space behind them, so that the chunks of a stream add up to the text exactly.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final as Constant

import orjson
from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.manifest import Manifest
from headrace.contracts.openai import ChatBody, Shape, usage
from headrace.core.ports import Call, Final, Partial
from headrace.engines.catalog import arguments

_TOKEN: Constant = re.compile(r"\S+\s*|\s+")


class EchoArgs(BaseModel):
    """Arguments of the `echo` engine.

    token_ms: duration of one decode step; 0 answers at once.
    step_batching: all running requests share their steps, as in a batched LLM; else each has its own.
    output_tokens: length of every answer; the message is repeated or cut. None: the message as it is.
    prefill_ms: wait before the first token. start_ms: cold start.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slots: int = Field(default=256, ge=1)
    token_ms: float = Field(default=0.0, ge=0)
    step_batching: bool = True
    output_tokens: int | None = Field(default=None, ge=0)
    prefill_ms: float = Field(default=0.0, ge=0)
    start_ms: float = Field(default=0.0, ge=0)


class EchoEngine:
    """Fills `core.ports.Engine`."""

    def __init__(self, args: EchoArgs) -> None:
        self._args = args
        self._steps = _Steps(args.token_ms / 1000)

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        return self._args.slots

    async def start(self) -> None:
        """Play a cold start."""
        await asyncio.sleep(self._args.start_ms / 1000)

    async def stop(self) -> None:
        """End the shared steps."""
        await self._steps.stop()

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Answer one call."""
        if (call.body.n or 1) > 1:
            raise InvalidRequest("The echo engine gives one choice: leave 'n' out", param="n")
        prompt = _prompt(call)
        text, reason = self._answer(prompt, call)
        shape = Shape(request_id=call.id, path=call.path, model=call.model, created_s=call.created_s)
        used = usage(_count(prompt), _count(text))
        if self._args.prefill_ms:
            await asyncio.sleep(self._args.prefill_ms / 1000)
        if call.body.stream:
            async for chunk in self._stream(shape, text, reason):
                yield chunk
            if call.body.wants_usage_chunk:
                yield Partial(orjson.dumps(shape.usage_chunk(used)))
        elif self._args.token_ms:
            for _ in range(used["completion_tokens"]):
                await self._step()
        yield Final(orjson.dumps(shape.response(text, reason, used)), incomplete=reason == "length")

    async def _stream(self, shape: Shape, text: str, reason: str) -> AsyncGenerator[Partial, None]:
        first = True
        for token in _TOKEN.findall(text):
            if self._args.token_ms:
                await self._step()
            yield Partial(orjson.dumps(shape.chunk(token, first=first)))
            first = False
        yield Partial(orjson.dumps(shape.chunk(None, reason, first=first)))

    async def _step(self) -> None:
        if self._args.step_batching:
            await self._steps.next()
        else:
            await asyncio.sleep(self._args.token_ms / 1000)

    def _answer(self, prompt: str, call: Call) -> tuple[str, str]:
        text, reason = prompt, "stop"
        limit = call.body.token_limit
        if self._args.output_tokens is not None:
            text = _fit(text, self._args.output_tokens)
        if limit is not None and _count(text) > limit:
            text, reason = _fit(text, limit), "length"
        for stop in _stops(call.body.stop):
            head, found, _ = text.partition(stop)
            if found:
                text, reason = head, "stop"
        return text, reason


class _Steps:
    """A shared clock of decode steps; it ticks only while somebody waits."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._waiting: list[asyncio.Future[None]] = []
        self._ticking: asyncio.Task[None] | None = None

    async def next(self) -> None:
        """Wait for the end of the next whole step."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
        await done

    async def stop(self) -> None:
        """Stop ticking."""
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking

    async def _tick(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await asyncio.sleep(self._step_s)
            for done in batch:
                if not done.done():
                    done.set_result(None)
            await asyncio.sleep(0)  # let them ask for their next token, so that no step is missed
        self._ticking = None


def create(manifest: Manifest, model_path: Path | None) -> EchoEngine:
    """The engine for a manifest; it has no model, so the path is not used."""
    return EchoEngine(arguments(manifest, EchoArgs))


def _prompt(call: Call) -> str:
    body = call.body
    if isinstance(body, ChatBody):
        return next((message.text for message in reversed(body.messages) if message.role == "user"), "")
    if isinstance(body.prompt, str):
        return body.prompt
    if len(body.prompt) > 1:
        raise InvalidRequest("The echo engine takes one prompt, not a list", param="prompt")
    return body.prompt[0]


def _count(text: str) -> int:
    # As many as _TOKEN finds, save for text that begins with white space: split() is ten times faster.
    return len(text.split())


def _fit(text: str, tokens: int) -> str:
    words = text.split() or ["echo"]
    return " ".join(words[index % len(words)] for index in range(tokens))


def _stops(stop: str | Sequence[str] | None) -> Sequence[str]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else stop
