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
from headrace.core.usage import Usage, finish_reasons_of, usage_of
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
        self._paths: dict[str, _OfPath] = {}
        self._queued: dict[str, Series] = {}
        if telemetry.is_on:
            # Else the first one is where it begins, and nothing has grown that an alert could see.
            telemetry.instruments.series(metrics.DEAD_LETTERS, served.model)

    def begin(self, record: Record, call: Call) -> Work:
        """A request starts."""
        return _Told(self, record, call) if self.telemetry.is_on else _NOTHING

    def ended(self, outcome: str) -> None:
        """A request has a fate: how it ended, or `retried`."""
        if self.telemetry.is_on:
            self.telemetry.instruments.series(metrics.REQUESTS, self.served.model, outcome).add(1)

    def set_aside(self) -> None:
        """A request has become a dead letter."""
        if self.telemetry.is_on:
            self.telemetry.instruments.series(metrics.DEAD_LETTERS, self.served.model).add(1)

    def of_path(self, path: str) -> "_OfPath":
        """What is told of all requests of a path."""
        found = self._paths.get(path)
        if found is None:
            found = self._paths[path] = _OfPath(self, path)
        return found

    def queued(self, topic: str) -> Series:
        """Where the time in the queue of a topic goes."""
        found = self._queued.get(topic)
        if found is None:
            lane = self.served.lanes.get(topic, "")
            found = self.telemetry.instruments.series(metrics.QUEUE_DURATION, self.served.model, lane)
            self._queued[topic] = found
        return found


UNTOLD: Final = WorkerTelemetry(Served("", "", "", "", {}))
"""Nobody is told."""


class _OfPath:
    """The series of one path, found once. Each lookup would cost as much as the value."""

    __slots__ = ("duration", "first", "input", "operation", "output", "per_token")

    def __init__(self, worker: WorkerTelemetry, path: str) -> None:
        self.operation = _OPERATIONS.get(path, path)
        series, labels = worker.telemetry.instruments.series, (self.operation, worker.served.model)
        self.duration = series(metrics.REQUEST_DURATION, *labels)
        self.first = series(metrics.FIRST_TOKEN, *labels)
        self.per_token = series(metrics.OUTPUT_TOKEN, *labels)
        self.input = series(metrics.TOKENS, *labels, "input")
        self.output = series(metrics.TOKENS, *labels, "output")


class _Told(Work):
    def __init__(self, worker: WorkerTelemetry, record: Record, call: Call) -> None:
        self._worker = worker
        self._call = call
        self._of_path = worker.of_path(call.path)
        self._first_s: float | None = None
        worker.queued(record.place.topic).observe(max(0.0, time.time() - record.timestamp_ms / 1000))
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
        told, first_s = self._of_path, self._first_s
        took_s = time.perf_counter() - self._begun_s
        told.duration.observe(took_s)
        if first_s is not None:
            told.first.observe(first_s)
        if isinstance(found, HeadraceError):
            self._end_engine({}, found.code)
            return
        usage = usage_of(found.value)
        if usage.input_tokens is not None:
            told.input.observe(usage.input_tokens)
        if usage.output_tokens is not None:
            told.output.observe(usage.output_tokens)
            if first_s is not None and usage.output_tokens > 1:
                told.per_token.observe((took_s - first_s) / (usage.output_tokens - 1))
        if self._spans:
            self._end_engine(_said(found, usage), None)

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
        parent = record.headers.get(h.TRACE_PARENT)
        if tracer is None or not (parent is None or tracing.is_traced(parent)):
            return []
        caller = tracing.read(parent, record.headers.get(h.TRACE_STATE))
        if not tracer.wants(caller):
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
        operation, model = self._of_path.operation, served.model
        asked: dict[str, str | int | float | bool | list[str]] = {
            metrics.OPERATION: operation,
            metrics.MODEL: model,
            "gen_ai.provider.name": served.engine,
            "gen_ai.request.stream": bool(call.body.stream),
        }
        if call.body.token_limit is not None:
            asked["gen_ai.request.max_tokens"] = call.body.token_limit
        return [consumer, tracer.begin(f"{operation} {model}", INTERNAL, consumer.context, asked)]


def _said(found: Outcome, usage: Usage) -> Attributes:
    """What an answer says about itself, by the names of the GenAI conventions."""
    said: dict[str, str | int | float | bool | list[str]] = {"headrace.outcome": found.state.value}
    if usage.input_tokens is not None:
        said["gen_ai.usage.input_tokens"] = usage.input_tokens
    if usage.output_tokens is not None:
        said["gen_ai.usage.output_tokens"] = usage.output_tokens
    if reasons := finish_reasons_of(found.value):
        said["gen_ai.response.finish_reasons"] = reasons
    return said
