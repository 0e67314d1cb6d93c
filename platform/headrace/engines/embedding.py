"""Texts to vectors by a transformer that gives a vector for each token: tokenize, run, pool."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from typing import Final as Constant

import numpy as np
from tokenizers import Tokenizer

from headrace.contracts import embeddings as contract
from headrace.contracts.embeddings import EmbeddingBody, check_dimensions
from headrace.contracts.errors import ContextLengthExceeded, InvalidRequest, SetupError, UnknownPath
from headrace.contracts.tensors import Signature
from headrace.core.ports import Call, Final, Partial
from headrace.engines.batching import Batcher, BatchPlan, Model
from headrace.engines.tensor_engine import dump
from headrace.engines.tensors import Array, Arrays

_STEP_TOKENS: Constant = 16
"""Texts are padded to a multiple, so that those of about the same length make one batch."""
_IDS: Constant = "input_ids"
_MASK: Constant = "attention_mask"
_KINDS: Constant = "token_type_ids"
_KNOWN: Constant = frozenset({_IDS, _MASK, _KINDS})
_PREFERRED: Constant = ("sentence_embedding", "last_hidden_state", "token_embeddings")

_Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """How a text becomes a vector; see `OnnxArgs`."""

    tokenizer: Path
    pooling: Literal["mean", "cls"]
    normalize: bool
    max_tokens: int
    shortens: bool


@dataclass(slots=True)
class _Loaded:
    tokenizer: Any
    signature: Signature
    output: str
    batcher: Batcher
    vocabulary: int
    padding_id: int


class EmbeddingEngine:
    """Fills `core.ports.Engine` for `/v1/embeddings`."""

    def __init__(self, load: Callable[[], Model], plan: EmbeddingPlan, batch: BatchPlan) -> None:
        self._load = load
        self._plan = plan
        self._batch = batch
        self._loaded: _Loaded | None = None

    @property
    def capacity(self) -> int:
        """As many as one batch can hold."""
        return self._batch.max_rows

    @property
    def lookahead(self) -> int:
        """The next batch gathers while one runs."""
        return self._batch.max_rows

    @property
    def in_flight(self) -> int:
        """Runs of the model that wait or run."""
        return 0 if self._loaded is None else self._loaded.batcher.in_flight

    async def start(self) -> None:
        """Load the model and its tokenizer.

        Raises:
            SetupError: one cannot be loaded, or the model is none for texts.
        """
        model, tokenizer = await asyncio.to_thread(lambda: (self._load(), _tokenizer(self._plan.tokenizer)))
        signature = model.signature
        self._loaded = _Loaded(
            tokenizer,
            signature,
            _output(signature),
            Batcher(model, self._batch),
            tokenizer.get_vocab_size(),
            (tokenizer.padding or {}).get("pad_id", 0),
        )
        tokenizer.no_padding()
        tokenizer.no_truncation()

    async def stop(self) -> None:
        """Free the model."""
        if self._loaded is not None:
            await self._loaded.batcher.stop()
        self._loaded = None

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        body = call.body
        if not isinstance(body, EmbeddingBody):
            raise UnknownPath("This engine answers embeddings only")
        ids = await self._ids(body)
        vectors = await self._vectors(ids)
        width = check_dimensions(body, vectors.shape[1], may_shorten=self._plan.shortens)
        if width < vectors.shape[1] or self._plan.normalize:
            vectors = _normalized(vectors[:, :width])
        data = [contract.embedding(index, _shown(row, body)) for index, row in enumerate(vectors)]
        yield Final(dump(contract.response(call.model, data, sum(map(len, ids)))))

    async def _ids(self, body: EmbeddingBody) -> list[_Ids]:
        """Each input as token ids. Those that come as such are taken as they are."""
        loaded, given = self._ready, body.inputs
        texts = [each for each in given if isinstance(each, str)]
        if texts:
            encoded = await asyncio.to_thread(loaded.tokenizer.encode_batch_fast, texts)
            ids: list[_Ids] = [each.ids for each in encoded]
        else:
            ids = [each for each in given if not isinstance(each, str)]
        for number, each in enumerate(ids):
            if len(each) > self._plan.max_tokens:
                raise ContextLengthExceeded(
                    f"An input has {len(each)} tokens; this model takes up to {self._plan.max_tokens}",
                    param=body.field(number),
                )
            if not texts and max(each) >= loaded.vocabulary:
                raise InvalidRequest(
                    f"Token {max(each)} is none of this model's, which are below {loaded.vocabulary}",
                    param=body.field(number),
                )
        return ids

    async def _vectors(self, ids: Sequence[_Ids]) -> Array:
        """A vector for each, in their order."""
        by_width: dict[int, list[int]] = {}
        for number, each in enumerate(ids):
            by_width.setdefault(-(-len(each) // _STEP_TOKENS), []).append(number)
        runs = [
            numbers[at : at + self._batch.max_rows]
            for numbers in by_width.values()
            for at in range(0, len(numbers), self._batch.max_rows)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._pooled([ids[number] for number in run])) for run in runs]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        found: list[Array] = [np.empty(0)] * len(ids)
        for run, task in zip(runs, tasks, strict=True):
            for number, row in zip(run, task.result(), strict=True):
                found[number] = row
        return np.stack(found)

    async def _pooled(self, ids: Sequence[_Ids]) -> Array:
        loaded = self._ready
        arrays = _padded(ids, loaded.padding_id)
        wanted = {spec.name for spec in loaded.signature.inputs}
        found = (await loaded.batcher.run({name: arrays[name] for name in wanted}))[loaded.output]
        if found.ndim == 2:
            return found
        if self._plan.pooling == "cls":
            return found[:, 0]
        mask = arrays[_MASK][:, :, None].astype(found.dtype)
        mean: Array = (found * mask).sum(axis=1) / mask.sum(axis=1)
        return mean

    @property
    def _ready(self) -> _Loaded:
        assert self._loaded is not None
        return self._loaded


def _tokenizer(path: Path) -> Any:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  # it raises nothing narrower
        raise SetupError(f"{path}, which embeddings need, cannot be read: {error}") from None


def _output(signature: Signature) -> str:
    unknown = {spec.name for spec in signature.inputs} - _KNOWN
    names = [spec.name for spec in signature.outputs]
    if unknown or not any(spec.name == _IDS for spec in signature.inputs):
        takes = ", ".join(spec.name for spec in signature.inputs)
        raise SetupError(f"The model takes {takes}; one that embeds texts takes {_IDS}, {_MASK} and {_KINDS}")
    return next((name for name in _PREFERRED if name in names), names[0])


def _padded(ids: Sequence[_Ids], padding_id: int) -> Arrays:
    width = -(-max(map(len, ids)) // _STEP_TOKENS) * _STEP_TOKENS
    tokens = np.full((len(ids), width), padding_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for row, each in enumerate(ids):
        tokens[row, : len(each)] = each
        mask[row, : len(each)] = 1
    return {_IDS: tokens, _MASK: mask, _KINDS: np.zeros_like(tokens)}


def _normalized(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)
    return unit


def _shown(vector: Array, body: EmbeddingBody) -> Any:
    if body.encoding_format == "base64":
        return vector.astype("<f4").tobytes()
    return np.ascontiguousarray(vector)
