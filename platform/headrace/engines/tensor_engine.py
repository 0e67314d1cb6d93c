"""An engine of tensors, whichever library computes them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts import tensors as contract
from headrace.contracts.errors import UnknownPath
from headrace.contracts.predictions import Prediction, PredictionBody
from headrace.contracts.tensors import InferBody, Signature
from headrace.core.ports import Call, Final, Partial
from headrace.engines import tensors
from headrace.engines.batching import Batcher, BatchPlan, Model


class BatchArgs(BaseModel):
    """Arguments of every engine of tensors.

    max_batch: rows (first axes added up) that are computed in one go; 1 turns batching off. A model whose
        first axis is fixed is never batched.
    batch_delay_ms: a call waits so long for others to join it, when the model is idle.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch: int = Field(default=32, ge=1, le=4096)
    batch_delay_ms: float = Field(default=2.0, ge=0, le=1000)

    @property
    def plan(self) -> BatchPlan:
        """The same for the batcher."""
        return BatchPlan(self.max_batch, self.batch_delay_ms / 1000)


@dataclass(slots=True)
class _Loaded:
    model: Model
    batcher: Batcher


class TensorEngine(ABC):
    """Fills `core.ports.Engine`; `load` is the library's."""

    def __init__(self, args: BatchArgs) -> None:
        self._args = args
        self._loaded: _Loaded | None = None

    @abstractmethod
    def load(self) -> Model:
        """Load the model; in a thread.

        Raises:
            SetupError: it cannot be loaded.
        """

    @property
    def capacity(self) -> int:
        """As many as one batch can hold."""
        return self._args.max_batch

    @property
    def lookahead(self) -> int:
        """The next batch gathers while one runs."""
        return self._args.max_batch

    @property
    def signature(self) -> Signature | None:
        """What the model takes and gives; None until it is loaded."""
        return None if self._loaded is None else self._loaded.model.signature

    @property
    def in_flight(self) -> int:
        """Calls that wait for the model or are in it."""
        return 0 if self._loaded is None else self._loaded.batcher.in_flight

    async def start(self) -> None:
        """Load the model.

        Raises:
            SetupError: it cannot be loaded.
        """
        model = await asyncio.to_thread(self.load)
        self._loaded = _Loaded(model, Batcher(model, self._args.plan))

    async def stop(self) -> None:
        """Free the model."""
        if self._loaded is not None:
            await self._loaded.batcher.stop()
        self._loaded = None

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        body = call.body
        if isinstance(body, InferBody):
            yield Final(await self._infer(call, body))
        elif isinstance(body, PredictionBody):
            form = Prediction(request_id=call.id, model=call.model, created_s=call.created_s)
            output = await self._predict(body)
            if body.stream:
                yield Partial(dump(form.chunk(output)))
            yield Final(dump(form.response(output)))
        else:
            raise UnknownPath("This engine answers tensors and predictions only")

    async def _infer(self, call: Call, body: InferBody) -> bytes:
        model = self._ready.model
        found = await self._ready.batcher.run(tensors.from_infer(body, model.signature))
        outputs = tensors.to_infer(found, [each.name for each in body.outputs or ()])
        return dump(contract.response(call.model, call.version, body.id or call.id, outputs))

    async def _predict(self, body: PredictionBody) -> dict[str, Any]:
        arrays = tensors.from_prediction(body.input, self._ready.model.signature)
        return tensors.to_prediction(await self._ready.batcher.run(arrays))

    @property
    def _ready(self) -> _Loaded:
        assert self._loaded is not None
        return self._loaded


def dump(document: object) -> bytes:
    """JSON, arrays too."""
    return orjson.dumps(document, option=tensors.JSON_OPTIONS)
