"""llama.cpp in this process, by xllamacpp: GGUF models on CPU or GPU, with continuous batching."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Final as Constant

import orjson
import xllamacpp
from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import Manifest
from headrace.contracts.requests import CHAT
from headrace.core.ports import Call, Final, Partial
from headrace.engines import llamacpp_body
from headrace.engines.catalog import arguments
from headrace.engines.llamacpp_chunks import ChunkReader
from headrace.engines.llamacpp_generation import Generation

_GGUF: Constant = b"GGUF"
_SILENT: Constant = -1


class LlamaArgs(BaseModel):
    """Arguments of the `llamacpp` engine.

    n_parallel: requests at once. context_tokens: of each of them, prompt and answer together; the memory
        for all of it is taken at the start.
    threads: on the CPU; 0 for half the cores. They wait for each other by spinning, after every layer: where
        other processes want the cores too, one thread too many makes all of them many times slower.
    gpu_layers: layers on the GPU; -1 for as many as fit.
    batch_tokens: prompt tokens computed in one go. More is faster on a GPU; while it lasts, the other
        requests wait, and a cancelled one goes on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_parallel: int = Field(default=8, ge=1, le=256)
    context_tokens: int = Field(default=2048, ge=64)
    threads: int = Field(default=0, ge=0)
    gpu_layers: int = Field(default=-1, ge=-1)
    batch_tokens: int = Field(default=512, ge=32)


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    path: Path
    max_tokens: int | None
    """For a request that names no limit of its own; None is until the context is full."""


class LlamaEngine:
    """Fills `core.ports.Engine`."""

    def __init__(self, args: LlamaArgs, model: _Model) -> None:
        self._args = args
        self._model = model
        self._server: Any = None
        # xllamacpp blocks while it generates, so every running call has a thread.
        self._threads = ThreadPoolExecutor(args.n_parallel, thread_name_prefix="llama")

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        return self._args.n_parallel

    @property
    def lookahead(self) -> int:
        """A call needs a thread of its own from its first moment."""
        return 0

    async def start(self) -> None:
        """Load the model.

        Raises:
            SetupError: llama.cpp cannot load the file.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.run_in_executor(self._threads, self._load)

    async def stop(self) -> None:
        """Free the model."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._free)
        self._threads.shutdown(wait=False)

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        body = llamacpp_body.prepare(call, self._args.context_tokens, self._model.max_tokens)
        server = self._server
        serve = server.handle_chat_completions if call.path == CHAT else server.handle_completions
        generation = Generation(ChunkReader(call))
        try:
            generation.start(self._threads, serve, body)
            async for chunk in generation.chunks():
                yield Partial(chunk)
            whole = generation.whole
            yield Final(orjson.dumps(whole.response()), incomplete=whole.incomplete)
        finally:
            await generation.close()

    def metrics(self) -> str:
        """llama.cpp's own metrics, in Prometheus' text format."""
        return str(self._server.handle_metrics())

    def _load(self) -> Any:
        _check_file(self._model)
        params = xllamacpp.CommonParams()
        params.model.path = str(self._model.path)
        params.n_parallel = self._args.n_parallel
        params.n_ctx = self._args.context_tokens * self._args.n_parallel
        params.n_gpu_layers = self._args.gpu_layers
        params.n_batch = params.n_ubatch = self._args.batch_tokens
        params.cpuparams.n_threads = self._args.threads or max(1, (os.cpu_count() or 1) // 2)
        params.verbosity = _SILENT
        params.endpoint_metrics = True
        # Prompts that were served before would be kept in up to 8 GiB of memory.
        params.cache_ram_mib = 0
        # It insists on an HTTP server beside the calls from Python, which would be open to everyone on this
        # machine. In a folder that is ours alone, and gone when it has started, nobody reaches it.
        params.n_threads_http = 1
        params.ui = False
        with tempfile.TemporaryDirectory(prefix="headrace-") as private:
            params.hostnames = [f"{private}/llama.sock"]
            try:
                return xllamacpp.Server(params)
            except (RuntimeError, ValueError):  # its reasons go to its log only
                raise SetupError(
                    f"llama.cpp cannot load {self._model.path}: the file is damaged, its architecture is too "
                    "new for this xllamacpp, or there is not enough memory (lower n_parallel or "
                    "context_tokens)"
                ) from None

    def _free(self) -> None:
        self._server = None


def create(manifest: Manifest, model_path: Path | None) -> LlamaEngine:
    """The engine for a manifest.

    Raises:
        SetupError: the manifest names no model, or its arguments are wrong.
    """
    if model_path is None:
        raise SetupError(f"Function '{manifest.name}': engine llamacpp needs 'model: {{source: …}}'")
    model = _Model(manifest.name, model_path, manifest.limits.max_tokens)
    return LlamaEngine(arguments(manifest, LlamaArgs), model)


def _check_file(model: _Model) -> None:
    try:
        with model.path.open("rb") as file:
            magic = file.read(len(_GGUF))
    except IsADirectoryError:
        raise SetupError(
            f"Function '{model.name}': {model.path} is a folder; engine llamacpp needs one .gguf file"
        ) from None
    except OSError as error:
        raise SetupError(f"Function '{model.name}': {model.path}: {error.strerror}") from None
    if magic != _GGUF:
        raise SetupError(f"Function '{model.name}': {model.path} is not a GGUF file, which llamacpp needs")
