"""Events of the scaler: what it decided and why, and what it has learned."""

from typing import Literal

from headrace.contracts.events import Event, ModelDeployed


class Decision(Event):
    """On `decisions`, keyed by model: what was seen, and how many workers there are to be.

    Written before anything is done, whenever something changes or is done, every second while there is work,
    and once a minute. Whoever reads them all can decide anew by another policy.

    at_s: Unix time. epoch, seq: who decided (grows with every change of the scaler) and its how many-th.
    waiting, running, retrying: requests. arrived: requests there ever were in the model's topics.
    work_s: seconds of one worker for a request, None while unknown. cold_start_s: nine times in ten.
    needed: by the formula; target: now. actions: what is done about it, in words.
    failures: workers of this version that failed in a row.
    """

    kind: Literal["decision"] = "decision"
    model: str
    version: str
    at_s: float
    epoch: int
    seq: int
    waiting: int
    running: int
    retrying: int
    arrived: int
    arriving_per_s: float
    work_s: float | None = None
    tokens: float = 0.0
    cold_start_s: float
    warm: int
    starting: int
    draining: int
    needed: int
    target: int
    reason: str
    actions: tuple[str, ...] = ()
    failures: int = 0


class Leader(Event):
    """On `scaler`, keyed `leader`: who acts from here on; the record's offset is its epoch."""

    kind: Literal["leader"] = "leader"
    id: str
    pid: int
    host: str
    at_s: float


class Learned(Event):
    """On `scaler`, keyed `learned/<model>`: what requests cost and how long starts take, for the next scaler.

    work_s: seconds of one worker for a request. tokens: of one, in and out. starts_s: oldest first.
    """

    kind: Literal["learned"] = "learned"
    model: str
    work_s: float | None = None
    tokens: float = 0.0
    starts_s: tuple[float, ...] = ()
    at_s: float


class Trusted(Event):
    """On `scaler`, keyed `trusted/<model>`: the latest version of which a worker was well for a while.

    It comes back when a later one is not well. at_s: when that was known.
    """

    kind: Literal["trusted"] = "trusted"
    deployed: ModelDeployed
    at_s: float
