"""vLLM's engine core: loaded, asked, and ended with its worker, whatever model it runs."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM

from headrace.contracts.errors import EngineDied, SetupError
from headrace.engines.vllm_args import VllmArgs
from headrace.engines.vllm_guard import Guard

_GIB: Final = 2**30
_LOOK_AGAIN_S: Final = 0.5
_GONE: Final = "vLLM's engine core ended; its log says why"

T = TypeVar("T")

_ENVIRONMENT: Final = {
    # It takes these from the environment only. Fork would copy this process' threads, held locks and all.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # It would report the machine and the model to its makers.
    "VLLM_NO_USAGE_STATS": "1",
}


class Core:
    """One AsyncLLM. `function`: for messages."""

    def __init__(self, function: str, path: Path) -> None:
        self._function = function
        self._path = path
        self._guard: Guard | None = None
        self.llm: Any = None

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together."""
        tokens: int = self.llm.model_config.max_model_len
        return tokens

    async def start(self, engine_args: AsyncEngineArgs, task: str, what: str) -> None:
        """Load the model, which takes half a minute and more.

        Args:
            engine_args: vLLM's own.
            task: vLLM's word for what the model must be able to do.
            what: the same in ours, for the message.

        Raises:
            SetupError: vLLM cannot load it, or it is for something else.
        """
        self._guard = Guard()
        watching = asyncio.create_task(self._guard.watch())
        try:
            self.llm = await asyncio.to_thread(self._load, engine_args)
        finally:
            watching.cancel()
        self._guard.look()
        # Asked now, because vLLM would ask with the first request, and wait for ever if the core died then.
        if task not in await self.ask(self.llm.get_supported_tasks()):
            raise SetupError(f"Function '{self._function}': {self._path} is no model that {what}")

    async def stop(self) -> None:
        """End the engine core."""
        if self.llm is not None:
            await asyncio.to_thread(self.llm.shutdown)
        if self._guard is not None:
            self._guard.close()

    def check_alive(self) -> None:
        """Look whether it still is.

        Raises:
            EngineDied: it is gone.
        """
        if self.llm.errored:
            raise EngineDied(_GONE)

    async def abort(self, *names: str) -> None:
        """End requests inside the engine core; returns when they have been ended there."""
        try:
            await self.llm.abort(list(names))
            # It takes messages in order: when this is answered, the requests have ended.
            await self.ask(self.llm.is_paused())
        except (Exception, asyncio.CancelledError):  # what a dying engine core's closed sockets make of it
            if not self.llm.errored:
                raise

    async def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The engine core's answer. One that dies meanwhile never answers, and vLLM would wait for ever.

        Raises:
            EngineDied: it is gone.
        """
        asked = asyncio.create_task(question)
        while not asked.done() and not self.llm.errored:
            await asyncio.wait([asked], timeout=_LOOK_AGAIN_S)
        if not asked.done():
            asked.cancel()
            raise EngineDied(_GONE)
        return asked.result()

    def _load(self, engine_args: AsyncEngineArgs) -> AsyncLLM:
        """In a thread."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)  # noqa: TID251  # theirs, not ours
        # The engine core will read it; this process did when it imported vllm.
        logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # noqa: TID251
        try:
            return AsyncLLM.from_engine_args(engine_args)
        except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
            reason = str(error).strip().splitlines()
            raise SetupError(
                f"Function '{self._function}': vLLM cannot load {self._path}: "
                f"{reason[0] if reason else error!r}"
            ) from error


def engine_args(args: VllmArgs, function: str, path: Path, **more: Any) -> AsyncEngineArgs:
    """vLLM's arguments for ours."""
    return AsyncEngineArgs(
        model=str(path),
        served_model_name=function,
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
        **more,
    )
