"""llama.cpp in this process, by xllamacpp: GGUF models on CPU or GPU, with continuous batching.

xllamacpp blocks while it generates and calls back for every token, so each running call has a thread.
Requests are always streamed from it, even when the caller wants the whole: the callback is the one place
where a generation can be aborted.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from typing import Final as Constant

import orjson
import xllamacpp
from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts.errors import (
    ContextLengthExceeded,
    EngineFailed,
    HeadraceError,
    InvalidRequest,
    SetupError,
)
from headrace.contracts.manifest import Manifest
from headrace.contracts.openai import response_id
from headrace.contracts.requests import CHAT
from headrace.core.ports import Call, Final, Partial
from headrace.engines.catalog import arguments
from headrace.engines.merging import Merger

# llama.cpp's own additions to OpenAI's shapes
_FOREIGN_FIELDS: Constant = ("timings", "__verbose", "system_fingerprint", "prompt_progress")


class LlamaArgs(BaseModel):
    """Arguments of the `llamacpp` engine.

    n_parallel: requests at once. context_tokens: of each of them, prompt and answer together.
    threads: 0 lets llama.cpp choose. gpu_layers: layers on the GPU; -1 for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_parallel: int = Field(default=8, ge=1, le=256)
    context_tokens: int = Field(default=2048, ge=64)
    threads: int = Field(default=0, ge=0)
    gpu_layers: int = Field(default=-1, ge=-1)


class LlamaEngine:
    """Fills `core.ports.Engine`."""

    def __init__(self, name: str, args: LlamaArgs, model_path: Path) -> None:
        self._name = name
        self._args = args
        self._path = model_path
        self._server: Any = None
        self._threads = ThreadPoolExecutor(args.n_parallel, thread_name_prefix="llama")

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        return self._args.n_parallel

    async def start(self) -> None:
        """Load the model.

        Raises:
            SetupError: llama.cpp cannot load the file.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.run_in_executor(self._threads, self._load)
        except Exception as error:  # noqa: BLE001  # it documents no types
            raise SetupError(f"llama.cpp cannot load {self._path.name}: {error}") from None

    async def stop(self) -> None:
        """Free the model."""
        self._server = None
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        generation = _Generation(self._server, call)
        merger = Merger(call.path)
        try:
            generation.start(self._threads)
            async for chunk in generation.chunks():
                merger.add(chunk)
                # The usage chunk is always asked for; the caller gets it only when it asked as well.
                if call.body.stream and (chunk["choices"] or call.body.wants_usage_chunk):
                    yield Partial(orjson.dumps(chunk))
            yield Final(orjson.dumps(merger.response()), incomplete=merger.incomplete)
        finally:
            await generation.abort()

    def _load(self) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.n_parallel = self._args.n_parallel
        params.n_ctx = self._args.context_tokens * self._args.n_parallel
        params.n_gpu_layers = self._args.gpu_layers
        params.verbosity = -1
        # Prompts that were served before would be kept in up to 8 GiB of memory.
        params.cache_ram_mib = 0
        if self._args.threads:
            params.cpuparams.n_threads = self._args.threads
        return xllamacpp.Server(params)


class _Generation:
    """One call inside llama.cpp: its thread, its chunks, and the flag that aborts it.

    The queue is not bounded by itself; the context is: there is at most a chunk per token of it.
    """

    def __init__(self, server: Any, call: Call) -> None:
        self._server = server
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._aborted = threading.Event()
        self._ended: asyncio.Future[None] | None = None

    def start(self, threads: ThreadPoolExecutor) -> None:
        """Begin in a thread of the pool."""
        self._ended = self._loop.run_in_executor(threads, self._generate)

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks as they come, in OpenAI's shape with our id, model and time."""
        while (chunk := await self._queue.get()) is not None:
            if "error" in chunk:
                raise _explain(chunk["error"])
            yield self._rename(chunk)
        if self._ended is not None:
            try:
                await self._ended
            except (ValueError, RuntimeError) as error:
                raise _explain_raised(error) from None

    async def abort(self) -> None:
        """Stop generating; returns when llama.cpp has let go of the call."""
        self._aborted.set()
        if self._ended is not None and not self._ended.done():
            await asyncio.shield(asyncio.wait({self._ended}))

    def _generate(self) -> None:
        try:
            if self._aborted.is_set():
                return
            serve = (
                self._server.handle_chat_completions
                if self._call.path == CHAT
                else self._server.handle_completions
            )
            answer = serve(self._body(), self._receive)
            if isinstance(answer, dict) and "error" in answer:
                self._put(answer)
        finally:
            self._put(None)

    def _receive(self, chunk: dict[str, Any]) -> bool:
        """xllamacpp's callback, in the thread; True aborts the generation."""
        if self._aborted.is_set():
            return True
        self._put(chunk)
        return False

    def _put(self, chunk: dict[str, Any] | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(self._call.value)
        body |= {"stream": True, "stream_options": {"include_usage": True}, "cache_prompt": True}
        limit = self._call.body.token_limit
        if limit is not None:
            body["max_tokens"] = limit
        return body

    def _rename(self, chunk: dict[str, Any]) -> dict[str, Any]:
        for name in _FOREIGN_FIELDS:
            chunk.pop(name, None)
        call = self._call
        return chunk | {
            "id": response_id(call.id, call.path),
            "created": call.created_s,
            "model": call.model,
        }


def create(manifest: Manifest, model_path: Path | None) -> LlamaEngine:
    """The engine for a manifest.

    Raises:
        SetupError: the manifest names no model, or its arguments are wrong.
    """
    if model_path is None:
        raise SetupError(f"Function '{manifest.name}': engine llamacpp needs 'model: {{source: …}}'")
    return LlamaEngine(manifest.name, arguments(manifest, LlamaArgs), model_path)


def _explain_raised(error: Exception) -> HeadraceError:
    # xllamacpp raises both for a body it cannot read, and the second for its own faults too.
    if isinstance(error, ValueError) or str(error).startswith("Failed to parse"):
        return InvalidRequest(str(error))
    return EngineFailed(f"llama.cpp: {error}")


def _explain(error: dict[str, Any]) -> HeadraceError:
    message = str(error.get("message", error))
    if error.get("type") == "exceed_context_size_error":
        prompt, context = error.get("n_prompt_tokens"), error.get("n_ctx")
        return ContextLengthExceeded(
            f"The prompt has {prompt} tokens and the model's context holds {context}: shorten it",
            param="messages",
        )
    if int(error.get("code", 500)) < 500:
        return InvalidRequest(message)
    return EngineFailed(f"llama.cpp: {message}")
