"""What a worker tells of its requests."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts import tracing
from headrace.contracts.errors import HeadraceError
from headrace.contracts.requests import CHAT, COMPLETIONS, EMBEDDINGS, INFER, PREDICTIONS
from headrace.core.answers import Outcome
from headrace.core.ports import Call, Record
from headrace.core.usage import finish_reasons_of, usage_of
from headrace.telemetry import metrics
from headrace.telemetry.context import TRACE
from headrace.telemetry.instruments import Series
from headrace.telemetry.spans import CONSUMER, INTERNAL, Attributes, Span
from headrace.telemetry.telemetry import OFF, Telemetry

_OPERATIONS: Final = {
    CHAT: "chat",
    COMPLETIONS: "text_completion",
    EMBEDDINGS: "embeddings",
    PREDICTIONS: "predict",
    INFER: "infer",
}
"""GenAI's names; the last two are ours."""

Emit = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Served:
    """What a worker serves. lanes: by topic. group: its consumer group."""

    model: str
    engine: str
    worker_id: str
    group: str
    lanes: Mapping[str, str]


class Work:
    """One request on a worker, of which nothing is told."""

    def emitting(self, emit: Emit) -> Emit:
        """What chunks go through."""
        return emit

    def attempted(self, found: Outcome | HeadraceError) -> None:
        """The engine has answered or failed."""

    def end(self) -> None:
        """Its fate is durable, or it was given up."""


_NOTHING: Final = Work()


class WorkerTelemetry:
    """Begins a `Work` for each request, and counts fates."""

    def __init__(self, served: Served, telemetry: Telemetry = OFF) -> None:
        self.served = served
        self.telemetry = telemetry
        self._series: dict[tuple[str, ...], Series] = {}

    def begin(self, record: Record, call: Call) -> Work:
        """A request starts."""
        return _Told(self, record, call) if self.telemetry.is_on else _NOTHING

    def ended(self, outcome: str) -> None:
        """A request has a fate: how it ended, or `retried`."""
        if self.telemetry.is_on:
            self.series(metrics.REQUESTS, self.served.model, outcome).add(1)

    def set_aside(self) -> None:
        """A request has become a dead letter."""
        if self.telemetry.is_on:
            self.series(metrics.DEAD_LETTERS, self.served.model).add(1)

    def series(self, metric: metrics.Metric, *labels: str) -> Series:
        """The series of these labels' values."""
        key = (metric.name, *labels)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = self.telemetry.instruments.series(metric, *labels)
        return found


UNTOLD: Final = WorkerTelemetry(Served("", "", "", "", {}))
"""Nobody is told."""


class _Told(Work):
    def __init__(self, worker: WorkerTelemetry, record: Record, call: Call) -> None:
        self._worker = worker
        self._call = call
        self._labels = (_OPERATIONS.get(call.path, call.path), worker.served.model)
        self._first_s: float | None = None
        lane = worker.served.lanes.get(record.place.topic, "")
        waited_s = max(0.0, time.time() - record.timestamp_ms / 1000)
        worker.series(metrics.QUEUE_DURATION, worker.served.model, lane).observe(waited_s)
        self._spans = self._begin_spans(record)
        self._begun_s = time.perf_counter()

    def emitting(self, emit: Emit) -> Emit:
        async def first(value: bytes) -> None:
            if self._first_s is None:
                self._first_s = time.perf_counter() - self._begun_s
                if self._spans:
                    self._spans[-1].note("first chunk")
            await emit(value)

        return first if self._call.body.stream else emit

    def attempted(self, found: Outcome | HeadraceError) -> None:
        worker, labels = self._worker, self._labels
        took_s = time.perf_counter() - self._begun_s
        worker.series(metrics.REQUEST_DURATION, *labels).observe(took_s)
        if self._first_s is not None:
            worker.series(metrics.FIRST_TOKEN, *labels).observe(self._first_s)
        if isinstance(found, HeadraceError):
            self._end_engine({}, found.code)
            return
        usage = usage_of(found.value)
        if usage.input_tokens is not None:
            worker.series(metrics.TOKENS, *labels, "input").observe(usage.input_tokens)
        if usage.output_tokens is not None:
            worker.series(metrics.TOKENS, *labels, "output").observe(usage.output_tokens)
            if self._first_s is not None and usage.output_tokens > 1:
                each_s = (took_s - self._first_s) / (usage.output_tokens - 1)
                worker.series(metrics.OUTPUT_TOKEN, *labels).observe(each_s)
        if self._spans:
            said: dict[str, str | int | float | bool | list[str]] = {"headrace.outcome": found.state.value}
            if usage.input_tokens is not None:
                said["gen_ai.usage.input_tokens"] = usage.input_tokens
            if usage.output_tokens is not None:
                said["gen_ai.usage.output_tokens"] = usage.output_tokens
            if reasons := finish_reasons_of(found.value):
                said["gen_ai.response.finish_reasons"] = reasons
            self._end_engine(said, None)

    def end(self) -> None:
        for span in reversed(self._spans):
            span.end()
        self._spans = []

    def _end_engine(self, said: Attributes, error: str | None) -> None:
        if self._spans:
            engine = self._spans.pop()
            engine.say(said)
            engine.end(error)

    def _begin_spans(self, record: Record) -> list[Span]:
        tracer, served, call = self._worker.telemetry.tracer, self._worker.served, self._call
        headers = record.headers
        caller = tracing.read(headers.get(h.TRACE_PARENT), headers.get(h.TRACE_STATE))
        if tracer is None or not tracer.wants(caller):
            return []
        place = record.place
        consumer = tracer.begin(
            f"process {place.topic}",
            CONSUMER,
            caller,
            {
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": place.topic,
                "messaging.destination.partition.id": str(place.partition),
                "messaging.kafka.offset": place.offset,
                "messaging.consumer.group.name": served.group,
                "messaging.client.id": served.worker_id,
                "messaging.message.id": call.id,
                "headrace.request.id": call.id,
            },
        )
        TRACE.set(consumer.context)
        operation, model = self._labels
        asked: dict[str, str | int | float | bool | list[str]] = {
            metrics.OPERATION: operation,
            metrics.MODEL: model,
            "gen_ai.provider.name": served.engine,
            "gen_ai.request.stream": bool(call.body.stream),
        }
        if call.body.token_limit is not None:
            asked["gen_ai.request.max_tokens"] = call.body.token_limit
        return [consumer, tracer.begin(f"{operation} {model}", INTERNAL, consumer.context, asked)]
