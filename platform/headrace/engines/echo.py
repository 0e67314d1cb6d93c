"""An engine without a model: answers with the last user message. For tests and load tests.

It can play a batched LLM: `slots` requests advance together, one token each, in steps of `token_ms`.
Tokens are words with the white space behind them, so that the chunks of a stream add up to the text exactly.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final as Constant

import orjson
from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts.bodies import TextBody
from headrace.contracts.manifest import Manifest
from headrace.contracts.openai import ChatBody, Shape, usage
from headrace.core.ports import Call, Final, Partial
from headrace.engines.catalog import arguments
from headrace.engines.single import check_single
from headrace.engines.steps import OwnPace, Pace, SharedPace, SharedSteps

_TOKEN: Constant = re.compile(r"\s*\S+\s*|\s+")  # only the first can begin with white space


class EchoArgs(BaseModel):
    """Arguments of the `echo` engine.

    token_ms: duration of one decode step; 0 answers at once.
    step_batching: all running requests share their steps, as in a batched LLM; else each has its own.
    output_tokens: length of every answer; the message is repeated or cut. None: the message as it is.
    prefill_ms: wait before the first token; prefill_ms_per_token: as much more for each token of the message.
    start_ms: cold start.
    fail_on: a message that has this text in it makes the engine fail.
    crash_on: one that has this text in it ends the whole process, as a fault in native code would.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slots: int = Field(default=256, ge=1)
    token_ms: float = Field(default=0.0, ge=0)
    step_batching: bool = True
    output_tokens: int | None = Field(default=None, ge=0)
    prefill_ms: float = Field(default=0.0, ge=0)
    prefill_ms_per_token: float = Field(default=0.0, ge=0)
    start_ms: float = Field(default=0.0, ge=0)
    fail_on: str | None = Field(default=None, min_length=1)
    crash_on: str | None = Field(default=None, min_length=1)


class EchoEngine:
    """Fills `core.ports.Engine`. `max_tokens` is the limit of a request that names none."""

    def __init__(self, args: EchoArgs, max_tokens: int | None = None) -> None:
        self._args = args
        self._max_tokens = max_tokens
        self._token_s = args.token_ms / 1000
        self._steps = SharedSteps(self._token_s, args.slots)

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        return self._args.slots

    @property
    def lookahead(self) -> int:
        """A batch ends as one, so the next one waits beside it."""
        return self._args.slots if self._is_batched else 0

    @property
    def _is_batched(self) -> bool:
        return self._args.step_batching and self._token_s > 0

    async def start(self) -> None:
        """Play a cold start."""
        await asyncio.sleep(self._args.start_ms / 1000)

    async def stop(self) -> None:
        """Nothing is held."""

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Answer one call."""
        body = check_single(call.body)
        prompt = _prompt(body)
        text, reason = self._answer(prompt, body)
        prompt_tokens = _count(prompt)
        used = usage(prompt_tokens, prompt_tokens if text is prompt else _count(text))
        shape = Shape(request_id=call.id, path=call.path, model=call.model, created_s=call.created_s)
        prefill_ms = self._args.prefill_ms + prompt_tokens * self._args.prefill_ms_per_token
        if prefill_ms:
            await asyncio.sleep(prefill_ms / 1000)
        if call.body.stream:
            tokens = _TOKEN.findall(text)
            async with self._pace(len(tokens)) as pace:
                number = 0
                for number, token in enumerate(tokens, 1):
                    if self._token_s:
                        await pace.token(number)
                    yield Partial(orjson.dumps(shape.chunk(token, first=number == 1)))
            yield Partial(orjson.dumps(shape.chunk(None, reason, first=number == 0)))
            if call.body.wants_usage_chunk:
                yield Partial(orjson.dumps(shape.usage_chunk(used)))
        elif self._token_s:
            async with self._pace(used["completion_tokens"]) as pace:
                await pace.token(used["completion_tokens"])
        yield Final(orjson.dumps(shape.response(text, reason, used)), incomplete=reason == "length")

    def _pace(self, tokens: int) -> Pace:
        return SharedPace(self._steps, tokens) if self._is_batched else OwnPace(self._token_s)

    def _answer(self, prompt: str, body: TextBody) -> tuple[str, str]:
        """The text, and why it ends."""
        args, text, reason = self._args, prompt, "stop"
        if args.fail_on is not None and args.fail_on in prompt:
            raise RuntimeError(f"The message has {args.fail_on!r} in it")
        if args.crash_on is not None and args.crash_on in prompt:
            os.abort()
        if args.output_tokens is not None:
            text = _fit(text, args.output_tokens)
        limit = body.token_limit or self._max_tokens
        if limit is not None and _count(text) > limit:
            text, reason = _fit(text, limit), "length"
        for stop in _stops(body.stop):
            head, found, _ = text.partition(stop)
            if found:
                text, reason = head, "stop"
        return text, reason


def create(manifest: Manifest, model_path: Path | None) -> EchoEngine:
    """The engine for a manifest; it has no model, so the path is not used."""
    return EchoEngine(arguments(manifest, EchoArgs), manifest.limits.max_tokens)


def _prompt(body: TextBody) -> str:
    if isinstance(body, ChatBody):
        for message in reversed(body.messages):
            if message.role == "user":
                return message.text
        return ""
    return body.prompt if isinstance(body.prompt, str) else body.prompt[0]


def _count(text: str) -> int:
    # As many as _TOKEN finds, ten times faster.
    return len(text.split()) or len(text[:1])


def _fit(text: str, tokens: int) -> str:
    """The text, cut or repeated to so many tokens."""
    found = _TOKEN.findall(text if text.strip() else "echo")
    if len(found) < tokens:
        found[-1] = found[-1].rstrip() + " "  # or the repetition would join two words
        found = found * (tokens // len(found) + 1)
    return "".join(found[:tokens])


def _stops(stop: str | Sequence[str] | None) -> Sequence[str]:
    if not stop:
        return ()
    return (stop,) if isinstance(stop, str) else [text for text in stop if text]
