"""One call inside llama.cpp: the thread it blocks, the chunks that come from it, the way to abort it."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import orjson

from headrace.contracts.errors import ContextLengthExceeded, EngineFailed, HeadraceError, InvalidRequest
from headrace.engines.llamacpp_chunks import ChunkReader
from headrace.engines.merging import Merger

Serve: TypeAlias = Callable[[bytes, Callable[[bytes], bool]], object]
"""xllamacpp's: takes a body and a callback, which is called with each chunk and returns True to abort."""


class Generation:
    """Runs once: `start`, `chunks`, then `whole`; always `close`.

    The queue holds what the loop has not yet taken: at most the chunks of one context.
    """

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._aborted = threading.Event()
        self._failure: HeadraceError | None = None
        self._begun = False
        self._ended: asyncio.Future[None] | None = None

    def start(self, threads: ThreadPoolExecutor, serve: Serve, body: bytes) -> None:
        """Begin in a thread of the pool."""
        self._ended = self._loop.run_in_executor(threads, self._generate, serve, body)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The chunks for the caller, as they come.

        Raises:
            InvalidRequest: llama.cpp refused the request.
            EngineFailed: it failed on it.
        """
        while (chunk := await self._queue.get()) is not None:
            yield chunk
        if self._failure is not None:
            raise self._failure

    @property
    def whole(self) -> Merger:
        """All chunks together, when there are no more."""
        return self._reader.whole

    async def close(self) -> None:
        """Stop generating; returns when llama.cpp has let go of the call."""
        self._aborted.set()
        if self._ended is not None:
            await asyncio.shield(self._ended)

    def _generate(self, serve: Serve, body: bytes) -> None:
        """In the thread."""
        try:
            if not self._aborted.is_set():
                serve(body, self._receive)
        except Exception as error:  # noqa: BLE001  # whatever C++ throws; `chunks` raises it in the loop
            self._failure = self._explain_raised(error)
        finally:
            self._put(None)

    def _receive(self, value: bytes) -> bool:
        """In the thread; returns whether to abort."""
        if self._aborted.is_set():
            return True
        try:
            chunk = orjson.loads(value) or {}
            self._begun = True
            if "error" in chunk:
                self._failure = _explain(chunk["error"])
                return True
            for ours in self._reader.read(chunk):
                self._put(ours)
        except Exception as error:  # noqa: BLE001  # xllamacpp would swallow it
            self._failure = EngineFailed(f"llama.cpp sent a chunk that cannot be read: {error!r}")
            return True
        return False

    def _put(self, chunk: bytes | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)

    def _explain_raised(self, error: Exception) -> HeadraceError:
        # Before the first chunk it reads the body and applies the chat template: what it throws there is
        # about the request, whatever its type.
        if not self._begun and not isinstance(error, MemoryError):
            return InvalidRequest(f"llama.cpp cannot serve this request: {error}")
        return EngineFailed(f"llama.cpp failed: {error}")


def _explain(error: dict[str, Any]) -> HeadraceError:
    message = str(error.get("message", error))
    if error.get("type") == "exceed_context_size_error":
        prompt, context = error.get("n_prompt_tokens"), error.get("n_ctx")
        return ContextLengthExceeded(
            f"The prompt has {prompt} tokens and the model's context holds {context}: shorten it",
            param="messages",
        )
    if int(error.get("code", 500)) in {400, 501}:  # 501 is a feature that this model lacks
        return InvalidRequest(message)
    return EngineFailed(f"llama.cpp failed: {message}")
