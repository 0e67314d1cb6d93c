"""Embeddings by vLLM: models that pool what they compute of a text into one vector."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any
from typing import Final as Constant

import orjson
from vllm import PoolingParams
from vllm.config import PoolerConfig

from headrace.contracts import embeddings
from headrace.contracts.embeddings import EmbeddingBody, check_dimensions
from headrace.contracts.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, UnknownPath
from headrace.core.ports import Call, Final, Partial
from headrace.engines.vllm_args import VllmArgs
from headrace.engines.vllm_core import Core, engine_args
from headrace.engines.vllm_files import check_folder

_TASK: Constant = "embed"


class VllmEmbedder:
    """Fills `core.ports.Engine` for `/v1/embeddings`."""

    def __init__(self, args: VllmArgs, function: str, path: Path) -> None:
        self._args = args
        self._function = function
        self._path = path
        self._core = Core(function, path)
        self._tokenizer: Any = None

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        return self._args.max_num_seqs

    @property
    def lookahead(self) -> int:
        """vLLM has a queue of its own, and takes from it between two steps."""
        return max(1, self._args.max_num_seqs // 8)

    async def start(self) -> None:
        """Load the model.

        Raises:
            SetupError: vLLM cannot load it, or it makes no vectors.
        """
        check_folder(self._function, self._path)
        pooling = self._args.pooling
        pooler = PoolerConfig(pooling_type=None if pooling is None else pooling.upper())
        theirs = engine_args(self._args, self._function, self._path, runner="pooling", pooler_config=pooler)
        await self._core.start(theirs, _TASK, "makes vectors of texts")
        self._tokenizer = self._core.llm.get_tokenizer()

    async def stop(self) -> None:
        """End the engine core."""
        await self._core.stop()

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        body = call.body
        if not isinstance(body, EmbeddingBody):
            raise UnknownPath("This engine answers embeddings only")
        ids = await asyncio.to_thread(self._ids, body)
        names = [uuid.uuid4().hex for _ in ids]
        is_done = False
        try:
            vectors = await asyncio.gather(*map(self._vector, names, ids))
            is_done = True
        finally:
            if not is_done:
                await asyncio.shield(self._core.abort(*names))
        check_dimensions(body, len(vectors[0]), may_shorten=False)
        as_bytes = body.encoding_format == "base64"
        data = [
            embeddings.embedding(index, vector.tobytes() if as_bytes else vector.tolist())
            for index, vector in enumerate(vectors)
        ]
        yield Final(orjson.dumps(embeddings.response(call.model, data, sum(map(len, ids)))))

    def _ids(self, body: EmbeddingBody) -> list[Sequence[int]]:
        """Each input as token ids. Those that come as such are taken as they are. In a thread."""
        most, size = self._core.context_tokens, len(self._tokenizer)
        found: list[Sequence[int]] = []
        for number, given in enumerate(body.inputs):
            ids = self._tokenizer.encode(given) if isinstance(given, str) else given
            if len(ids) > most:
                raise ContextLengthExceeded(
                    f"An input has {len(ids)} tokens and the model's context holds {most}: shorten it",
                    param=body.field(number),
                )
            if max(ids) >= size:
                raise InvalidRequest(f"There is no token {max(ids)}", param=body.field(number))
            found.append(ids)
        return found

    async def _vector(self, name: str, ids: Sequence[int]) -> Any:
        """A numpy array of 32-bit floats.

        Raises:
            EngineFailed: vLLM failed on it.
            EngineDied: the engine core is gone.
        """
        params = PoolingParams(task=_TASK)
        try:
            async for answer in self._core.llm.encode({"prompt_token_ids": list(ids)}, params, name):
                return answer.outputs.data.float().numpy()
        except Exception as error:
            self._core.check_alive()
            raise EngineFailed(f"vLLM failed: {error}") from error
        raise EngineFailed("vLLM gave no vector")
