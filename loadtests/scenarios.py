"""The scenarios: which arms run beside each other, and what is compared."""

from dataclasses import dataclass
from typing import Final, Literal

Measure = Literal["rate", "p50"]

HEADRACE: Final = "headrace http"
DIRECT: Final = "headrace kafka"
FASTAPI: Final = "bare fastapi"
TWO_HOP: Final = "bare two-hop"
ANSWERS: Final = "bare, as large"
HEADRACE_STREAM: Final = "headrace stream"
FASTAPI_STREAM: Final = "fastapi stream"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`arm` against `base`, as a ratio. `goal`: at least (rate) or at most (p50); None: only reported."""

    arm: str
    base: str
    measure: Measure
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Arms in the order in which they take turns.

    concurrency: None means what the command line says.
    share: of the requests that the command line asks for, in each round of each arm.
    """

    name: str
    title: str
    arms: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    concurrency: int | None = None
    share: float = 1.0


SCENARIOS: Final = (
    Scenario(
        "sync",
        "HTTP, many at once",
        (HEADRACE, FASTAPI),
        (Comparison(HEADRACE, FASTAPI, "rate", goal=0.8),),
    ),
    Scenario(
        "single",
        "one at a time",
        (HEADRACE, DIRECT, TWO_HOP),
        (Comparison(HEADRACE, TWO_HOP, "p50", goal=1.6), Comparison(DIRECT, TWO_HOP, "p50")),
        concurrency=1,
        share=0.125,
    ),
    Scenario(
        "direct",
        "publish and reply by Kafka, many at once",
        (DIRECT, TWO_HOP, ANSWERS),
        (Comparison(DIRECT, TWO_HOP, "rate", goal=0.6), Comparison(DIRECT, ANSWERS, "rate")),
    ),
    Scenario(
        "stream",
        "server-sent events, many at once",
        (HEADRACE_STREAM, FASTAPI_STREAM),
        (Comparison(HEADRACE_STREAM, FASTAPI_STREAM, "rate"),),
        share=0.125,
    ),
    Scenario(
        "stream-single",
        "server-sent events, one at a time",
        (HEADRACE_STREAM, FASTAPI_STREAM),
        (),
        concurrency=1,
        share=0.05,
    ),
)
BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}
