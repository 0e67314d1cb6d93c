"""vLLM in this process, by its AsyncLLM: safetensors models on GPUs or a CPU, with continuous batching.

AsyncLLM runs the model in a process of its own, the engine core; here are its scheduler's client, the
tokenizer and the parsers.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from typing import Final as Constant

import orjson
from pydantic import ValidationError
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM

from headrace.contracts.errors import EngineDied, SetupError
from headrace.contracts.manifest import Manifest
from headrace.contracts.requests import CHAT
from headrace.core.ports import Call, Final, Partial
from headrace.engines import vllm_body
from headrace.engines.catalog import arguments
from headrace.engines.vllm_answers import Answer
from headrace.engines.vllm_args import VllmArgs
from headrace.engines.vllm_errors import Asked, ErrorInfo, explain, explain_field
from headrace.engines.vllm_files import check_folder, lora_args
from headrace.engines.vllm_guard import Guard
from headrace.engines.vllm_serving import Serving, serving

_DATA: Constant = "data: "
_DONE: Constant = "[DONE]"
_GIB: Constant = 2**30
_LOOK_AGAIN_S: Constant = 0.5
_GONE: Constant = "vLLM's engine core ended; its log says why"

T = TypeVar("T")

_ENVIRONMENT: Constant = {
    # It takes these from the environment only. Fork would copy this process' threads, held locks and all.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # It would report the machine and the model to its makers.
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    path: Path
    max_tokens: int | None
    """For a request that names no limit of its own; None is until the context is full."""
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """By the names that callers use, `MODEL:ADAPTER`."""


class VllmEngine:
    """Fills `core.ports.Engine`."""

    def __init__(self, args: VllmArgs, model: _Model) -> None:
        self._args = args
        self._model = model
        self._llm: Any = None
        self._serving: Serving | None = None
        self._guard: Guard | None = None

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        return self._args.max_num_seqs

    @property
    def lookahead(self) -> int:
        """vLLM has a queue of its own, and takes from it between two steps."""
        return max(1, self._args.max_num_seqs // 8)

    async def start(self) -> None:
        """Load the model, which takes half a minute and more.

        Raises:
            SetupError: vLLM cannot load it.
        """
        check_folder(self._model.name, self._model.path)
        lora = lora_args(
            self._model.name,
            self._model.adapters,
            None if current_platform.is_cpu() else self._args.max_adapters,
        )
        self._guard = Guard()
        watching = asyncio.create_task(self._guard.watch())
        try:
            self._llm = await asyncio.to_thread(self._load, lora)
        finally:
            watching.cancel()
        self._guard.look()
        # Asked now, because vLLM would ask with the first request, and wait for ever if the core died then.
        if "generate" not in await self._ask(self._llm.get_supported_tasks()):
            raise SetupError(
                f"Function '{self._model.name}': {self._model.path} is no model that writes text"
            )
        self._serving = serving(self._llm, self._args, self._model.name, self._model.adapters)
        await self._load_adapters(self._serving)

    async def stop(self) -> None:
        """End the engine core."""
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)
        if self._guard is not None:
            self._guard.close()

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        # Ours may come twice, after a rebalance; vLLM's must not.
        request_id = uuid.uuid4().hex
        body = vllm_body.prepare(call, request_id, self._context_tokens, self._model.max_tokens)
        if self._args.tool_call_parser is None:
            vllm_body.check_no_tools(body)
        answer = Answer(call)
        is_done = False
        try:
            theirs = await self._create(call, body)
            if call.body.stream:
                async with aclosing(self._chunks(call, theirs)) as chunks:
                    async for chunk in chunks:
                        for ours in answer.chunk(chunk):
                            yield Partial(ours)
                final = answer.merged()
            else:
                final = answer.whole(theirs.model_dump())
            is_done = True
            yield final
        finally:
            if not is_done:
                await asyncio.shield(self._abort(call, request_id))

    @property
    def _context_tokens(self) -> int:
        tokens: int = self._llm.model_config.max_model_len
        return tokens

    async def _create(self, call: Call, body: dict[str, Any]) -> Any:
        """vLLM's response or its stream.

        Raises:
            InvalidRequest: vLLM refused the request.
            EngineFailed: it failed on it.
            EngineDied: the engine core is gone.
        """
        assert self._serving is not None
        try:
            theirs = await self._serving.create(call.path, body)
        except ValidationError as error:
            raise explain_field(error) from None
        except Exception as error:
            raise self._explained(call, create_error_response(error).error) from error
        if isinstance(theirs, ErrorResponse):
            # vLLM makes of a cancellation an answer to nobody.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError
            raise self._explained(call, theirs.error)
        return theirs

    async def _chunks(self, call: Call, stream: AsyncGenerator[str, None]) -> AsyncGenerator[Any, None]:
        """The chunks of a stream. While nobody asks for the next, vLLM puts what comes into one."""
        async with aclosing(stream):
            async for event in stream:
                data = event.removeprefix(_DATA).strip()
                if data == _DONE:
                    return
                chunk = orjson.loads(data)
                if "error" in chunk:
                    error = chunk["error"]
                    raise self._explained(call, ErrorInfo(error["message"], error["code"], error["param"]))
                yield chunk

    def _explained(self, call: Call, error: Any) -> Exception:
        if self._llm.errored:
            return EngineDied(_GONE)
        info = ErrorInfo(error.message, error.code, error.param)
        fields = orjson.loads(call.value)
        return explain(info, Asked(self._context_tokens, fields))

    async def _abort(self, call: Call, request_id: str) -> None:
        """End a request inside the engine core; returns when it has been ended there."""
        # As the serving classes name it.
        name = f"chatcmpl-{request_id}" if call.path == CHAT else f"cmpl-{request_id}-0"
        try:
            await self._llm.abort(name)
            # It takes messages in order: when this is answered, the request has ended.
            await self._ask(self._llm.is_paused())
        except (Exception, asyncio.CancelledError):  # what a dying engine core's closed sockets make of it
            if not self._llm.errored:
                raise

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The engine core's answer. One that dies meanwhile never answers, and vLLM would wait for ever.

        Raises:
            EngineDied: it is gone.
        """
        asked = asyncio.create_task(question)
        while not asked.done() and not self._llm.errored:
            await asyncio.wait([asked], timeout=_LOOK_AGAIN_S)
        if not asked.done():
            asked.cancel()
            raise EngineDied(_GONE)
        return asked.result()

    async def _load_adapters(self, serving: Serving) -> None:
        try:
            await self._ask(serving.models.init_static_loras())
        except ValueError as error:
            raise SetupError(
                f"Function '{self._model.name}': vLLM cannot load an adapter: {error}"
            ) from error

    def _load(self, lora: dict[str, Any]) -> AsyncLLM:
        """In a thread."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)  # noqa: TID251  # theirs, not ours
        # The engine core will read it; this process did when it imported vllm.
        logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # noqa: TID251
        try:
            return AsyncLLM.from_engine_args(_engine_args(self._args, self._model, lora))
        except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
            reason = str(error).strip().splitlines()
            raise SetupError(
                f"Function '{self._model.name}': vLLM cannot load {self._model.path}: "
                f"{reason[0] if reason else error!r}"
            ) from error


def create(
    manifest: Manifest, model_path: Path | None, adapters: Mapping[str, Path] | None = None
) -> VllmEngine:
    """The engine for a manifest, and the folders of its adapters.

    Raises:
        SetupError: the manifest names no model, or its arguments are wrong.
    """
    if model_path is None:
        raise SetupError(f"Function '{manifest.name}': engine vllm needs 'model: {{source: …}}'")
    named = {f"{manifest.name}:{name}": path for name, path in (adapters or {}).items()}
    model = _Model(manifest.name, model_path, manifest.limits.max_tokens, named)
    return VllmEngine(arguments(manifest, VllmArgs), model)


def _engine_args(args: VllmArgs, model: _Model, lora: Mapping[str, Any]) -> AsyncEngineArgs:
    return AsyncEngineArgs(
        model=str(model.path),
        served_model_name=model.name,
        # Other formats are pickles, which are programs; so is a model's own Python.
        load_format="safetensors",
        trust_remote_code=False,
        max_num_seqs=args.max_num_seqs,
        max_model_len=args.context_tokens,
        max_num_batched_tokens=args.batch_tokens,
        dtype=args.dtype,
        quantization=args.quantization,
        enforce_eager=args.enforce_eager,
        gpu_memory_utilization=args.gpu_memory_fraction,
        kv_cache_memory_bytes=None if args.kv_cache_gib is None else int(args.kv_cache_gib * _GIB),
        tensor_parallel_size=args.tensor_parallel,
        enable_prefix_caching=args.prefix_caching,
        reasoning_parser=args.reasoning_parser or "",
        use_tqdm_on_load=False,
        enable_log_requests=False,
        disable_log_stats=True,
        **lora,
    )
