"""vLLM in this process, by its AsyncLLM: safetensors models on GPUs or a CPU, with continuous batching.

AsyncLLM runs the model in a process of its own, the engine core; here are its scheduler's client, the
tokenizer and the parsers.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from typing import Final as Constant

import orjson
from pydantic import ValidationError
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.platforms import current_platform

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import Manifest
from headrace.contracts.requests import CHAT
from headrace.core.ports import Call, Final, Partial
from headrace.engines import vllm_body
from headrace.engines.catalog import arguments
from headrace.engines.vllm_answers import Answer
from headrace.engines.vllm_args import VllmArgs
from headrace.engines.vllm_core import Core, engine_args
from headrace.engines.vllm_embedder import VllmEmbedder
from headrace.engines.vllm_errors import Asked, ErrorInfo, explain, explain_field
from headrace.engines.vllm_files import check_folder, lora_args
from headrace.engines.vllm_serving import Serving, serving

_DATA: Constant = "data: "
_DONE: Constant = "[DONE]"


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
        self._core = Core(model.name, model.path)
        self._serving: Serving | None = None

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
        model, args = self._model, self._args
        check_folder(model.name, model.path)
        at_once = None if current_platform.is_cpu() else args.max_adapters
        lora = lora_args(model.name, model.adapters, at_once)
        await self._core.start(engine_args(args, model.name, model.path, **lora), "generate", "writes text")
        self._serving = serving(self._core.llm, args, model.name, model.adapters)
        try:
            await self._core.ask(self._serving.models.init_static_loras())
        except ValueError as error:
            raise SetupError(f"Function '{model.name}': vLLM cannot load an adapter: {error}") from error

    async def stop(self) -> None:
        """End the engine core."""
        await self._core.stop()

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        # Ours may come twice, after a rebalance; vLLM's must not.
        request_id = uuid.uuid4().hex
        body = vllm_body.prepare(call, request_id, self._core.context_tokens, self._model.max_tokens)
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
                # As the serving classes name it.
                name = f"chatcmpl-{request_id}" if call.path == CHAT else f"cmpl-{request_id}-0"
                await asyncio.shield(self._core.abort(name))

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
        self._core.check_alive()
        info = ErrorInfo(error.message, error.code, error.param)
        fields = orjson.loads(call.value)
        return explain(info, Asked(self._core.context_tokens, fields))


def create(
    manifest: Manifest, model_path: Path | None, adapters: Mapping[str, Path] | None = None
) -> VllmEngine | VllmEmbedder:
    """The engine for a manifest, and the folders of its adapters.

    Raises:
        SetupError: the manifest names no model, or its arguments are wrong.
    """
    if model_path is None:
        raise SetupError(f"Function '{manifest.name}': engine vllm needs 'model: {{source: …}}'")
    named = {f"{manifest.name}:{name}": path for name, path in (adapters or {}).items()}
    args = arguments(manifest, VllmArgs)
    if args.task == "embeddings":
        return VllmEmbedder(args, manifest.name, model_path)
    return VllmEngine(args, _Model(manifest.name, model_path, manifest.limits.max_tokens, named))
