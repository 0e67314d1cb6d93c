"""Every metric that Headrace has: a table, of which instruments, docs and dashboard are made.

Names are OpenTelemetry's where its conventions have one (HTTP, GenAI), else `headrace.*`. Labels never hold
what a caller can make up: no ids, no texts; models are those that are deployed.
Source: OpenTelemetry's semantic conventions for HTTP metrics and for generative AI metrics.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MODEL: Final = "gen_ai.request.model"
OPERATION: Final = "gen_ai.operation.name"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  # of another sort
LANE: Final = "headrace.lane"
OUTCOME: Final = "headrace.outcome"

_LATENCY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300, 600)
_START_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300, 600, 1200)
_TOKEN_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)


class Kind(StrEnum):
    """What a metric's values are."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. role: the process that has it. unit: as UCUM writes it. bounds: a histogram's buckets."""

    name: str
    kind: Kind
    role: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """As Prometheus' exposition spells it, without a histogram's own suffixes."""
        name = self.name.replace(".", "_")
        if self.unit == "s":
            name += "_seconds"
        return f"{name}_total" if self.kind is Kind.COUNTER else name


HTTP_DURATION: Final = Metric(
    "http.server.request.duration",
    Kind.HISTOGRAM,
    "gateway",
    "s",
    "From the head of a request to the end of its answer",
    ("http.route", "http.response.status_code"),
    _LATENCY_S,
)
WAITING: Final = Metric(
    "headrace.gateway.waiting", Kind.GAUGE, "gateway", "{request}", "Callers who wait for an answer"
)
QUEUE_DURATION: Final = Metric(
    "headrace.queue.duration",
    Kind.HISTOGRAM,
    "worker",
    "s",
    "From the publishing of a request to its start on a worker",
    (MODEL, LANE),
    _LATENCY_S,
)
REQUESTS: Final = Metric(
    "headrace.requests",
    Kind.COUNTER,
    "worker",
    "{request}",
    "Requests that a worker has answered, or put off to try them again (retried)",
    (MODEL, OUTCOME),
)
DEAD_LETTERS: Final = Metric(
    "headrace.dead_letters", Kind.COUNTER, "worker", "{request}", "Requests that were set aside", (MODEL,)
)
REQUEST_DURATION: Final = Metric(
    "gen_ai.server.request.duration",
    Kind.HISTOGRAM,
    "worker",
    "s",
    "Time of a request on its engine",
    (OPERATION, MODEL),
    _LATENCY_S,
)
FIRST_TOKEN: Final = Metric(
    "gen_ai.server.time_to_first_token",
    Kind.HISTOGRAM,
    "worker",
    "s",
    "From the start on the engine to the first chunk, of streams",
    (OPERATION, MODEL),
    _LATENCY_S,
)
OUTPUT_TOKEN: Final = Metric(
    "gen_ai.server.time_per_output_token",
    Kind.HISTOGRAM,
    "worker",
    "s",
    "Time for each token after the first, of streams",
    (OPERATION, MODEL),
    _TOKEN_S,
)
TOKENS: Final = Metric(
    "gen_ai.client.token.usage",
    Kind.HISTOGRAM,
    "worker",
    "{token}",
    "Tokens of a request, read (input) and written (output)",
    (OPERATION, MODEL, TOKEN_TYPE),
    _TOKENS,
)
IN_FLIGHT: Final = Metric(
    "headrace.worker.in_flight", Kind.GAUGE, "worker", "{request}", "Requests that run", (MODEL,)
)
CAPACITY: Final = Metric(
    "headrace.worker.capacity", Kind.GAUGE, "worker", "{request}", "Requests that may run at once", (MODEL,)
)
WORKERS: Final = Metric(
    "headrace.workers",
    Kind.GAUGE,
    "scaler",
    "{worker}",
    "Workers that this scaler has started, by phase",
    (MODEL, "headrace.worker.phase"),
)
WORKER_ENDS: Final = Metric(
    "headrace.worker.ends",
    Kind.COUNTER,
    "scaler",
    "{worker}",
    "Workers that ended: asked to (overdue: killed after that), killed from outside, or failed by themselves",
    (MODEL, "headrace.worker.cause"),
)
ROLL_BACKS: Final = Metric(
    "headrace.model.roll_backs",
    Kind.COUNTER,
    "scaler",
    "{version}",
    "Versions that were taken out because their workers failed",
    (MODEL,),
)
FAILURES: Final = Metric(
    "headrace.model.failures",
    Kind.GAUGE,
    "scaler",
    "{worker}",
    "Workers that failed in a row, of the version that is deployed",
    (MODEL,),
)
TARGET: Final = Metric(
    "headrace.scaler.target",
    Kind.GAUGE,
    "scaler",
    "{worker}",
    "Workers that there are to be, by the scaler that acts",
    (MODEL,),
)
WORK: Final = Metric(
    "headrace.scaler.work",
    Kind.GAUGE,
    "scaler",
    "s",
    "Work that waits, in seconds of one worker",
    (MODEL,),
)
ARRIVING: Final = Metric(
    "headrace.scaler.arriving",
    Kind.GAUGE,
    "scaler",
    "{request}/s",
    "Requests that come steadily, in a second",
    (MODEL,),
)
COLD_START: Final = Metric(
    "headrace.scaler.cold_start",
    Kind.GAUGE,
    "scaler",
    "s",
    "How long a worker takes to start, nine times in ten",
    (MODEL,),
)
STAGES: Final = Metric(
    "headrace.scaler.requests",
    Kind.GAUGE,
    "scaler",
    "{request}",
    "Requests that wait, run, wait for another attempt, or are done and not committed yet",
    (MODEL, "headrace.request.stage"),
)
LAG: Final = Metric(
    "headrace.scaler.lag",
    Kind.GAUGE,
    "scaler",
    "{record}",
    "Records behind the commits, as Kafka's own tools count them",
    (MODEL,),
)
WAITING_TOKENS: Final = Metric(
    "headrace.scaler.tokens",
    Kind.GAUGE,
    "scaler",
    "{token}",
    "Tokens of the requests that wait, read and written, by the sizes of some of them",
    (MODEL,),
)
OLDEST: Final = Metric(
    "headrace.scaler.oldest",
    Kind.GAUGE,
    "scaler",
    "s",
    "For how long the oldest of the requests that were looked at has waited",
    (MODEL,),
)
REQUEST_WORK: Final = Metric(
    "headrace.scaler.request_work",
    Kind.GAUGE,
    "scaler",
    "s",
    "What a request costs on the average, in seconds of one full worker",
    (MODEL,),
)
SETTLED: Final = Metric(
    "headrace.scaler.settled",
    Kind.COUNTER,
    "scaler",
    "{request}",
    "Requests that workers say to have done with, since this scaler began",
    (MODEL,),
)
UNACCOUNTED: Final = Metric(
    "headrace.scaler.unaccounted",
    Kind.GAUGE,
    "scaler",
    "{request}",
    "Requests that commits and workers do not agree about, or that a worker runs which is heard no more",
    (MODEL,),
)
REACTION: Final = Metric(
    "headrace.scaler.reaction",
    Kind.HISTOGRAM,
    "scaler",
    "s",
    "From a request that is seen where no worker is, to the decision, to a warm worker, to its first answer",
    (MODEL, "headrace.reaction.stage"),
    _START_S,
)
START_DURATION: Final = Metric(
    "headrace.worker.start.duration",
    Kind.HISTOGRAM,
    "scaler",
    "s",
    "From the start of a worker until it is ready",
    (MODEL,),
    _START_S,
)
DRAIN_DURATION: Final = Metric(
    "headrace.worker.drain.duration",
    Kind.HISTOGRAM,
    "scaler",
    "s",
    "From the order to drain to a worker's end",
    (MODEL,),
    _START_S,
)
IDLE: Final = Metric(
    "headrace.worker.idle",
    Kind.COUNTER,
    "scaler",
    "s",
    "Time of ready workers without a request, times their GPUs",
    (MODEL,),
)
UNSEEN: Final = Metric(
    "headrace.scaler.unseen",
    Kind.GAUGE,
    "scaler",
    "s",
    "Since the scaler that acts has read what waits; nobody is stopped for what it does not know",
    (MODEL,),
)
LEADS: Final = Metric(
    "headrace.scaler.leads",
    Kind.GAUGE,
    "scaler",
    "{scaler}",
    "1 of the scaler that acts, 0 of those that stand by",
)
EPOCH: Final = Metric(
    "headrace.scaler.epoch",
    Kind.GAUGE,
    "scaler",
    "{epoch}",
    "Of the scaler that acts: higher than that of all before it",
)
BACKLOG: Final = Metric(
    "headrace.backlog",
    Kind.GAUGE,
    "dispatcher",
    "{request}",
    "Requests without a fate, waiting or running: what scaling goes by",
    (MODEL, LANE),
)

METRICS: Final = (
    HTTP_DURATION,
    WAITING,
    QUEUE_DURATION,
    REQUESTS,
    DEAD_LETTERS,
    REQUEST_DURATION,
    FIRST_TOKEN,
    OUTPUT_TOKEN,
    TOKENS,
    IN_FLIGHT,
    CAPACITY,
    WORKERS,
    WORKER_ENDS,
    ROLL_BACKS,
    FAILURES,
    TARGET,
    WORK,
    ARRIVING,
    COLD_START,
    STAGES,
    LAG,
    WAITING_TOKENS,
    OLDEST,
    REQUEST_WORK,
    SETTLED,
    UNACCOUNTED,
    REACTION,
    START_DURATION,
    DRAIN_DURATION,
    IDLE,
    UNSEEN,
    LEADS,
    EPOCH,
    BACKLOG,
)
