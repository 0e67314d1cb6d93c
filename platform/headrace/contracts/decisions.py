"""Events of the scaler: what it decided and why, and what it has learned."""

from typing import Literal

from headrace.contracts.events import Event, ModelDeployed


class Decision(Event):
    """On `decisions`, keyed by model: what was seen, and how many workers there are to be.

    Written before anything is done, whenever something changes or is done, every second while there is work,
    and once a minute. Whoever reads them all can decide anew by another policy.

    at_s: Unix time. epoch, seq: who decided (grows with every change of the scaler) and its how many-th.
    waiting, running, retrying: requests. arrived: requests there ever were in the model's topics.
    lag: records behind the commits, of which those that are no backlog were finished out of order. lagging:
    partitions that have something to do. oldest_s: for how long the oldest request has waited.
    work_s: seconds of one worker for a request, None while unknown. tokens: of a request, in and out.
    backlog_tokens, backlog_s: of all that waits, by the sizes of some of it; seconds of one worker, or, where
    workers have GPUs, of a GPU. cold_start_s: nine times in ten.
    unaccounted: requests that the commits and the workers' own counts do not agree about.
    needed: by the formula; target: now. actions: what is done about it, in words.
    failures: workers of this version that failed in a row. unread: why topics or commits cannot be read; what
    was seen is of before then, and nothing changes.
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
    backlog_tokens: int = 0
    backlog_s: float | None = None
    lag: int = 0
    lagging: int = 0
    oldest_s: float | None = None
    unaccounted: int = 0
    cold_start_s: float
    warm: int
    starting: int
    draining: int
    needed: int
    target: int
    reason: str
    actions: tuple[str, ...] = ()
    failures: int = 0
    unread: str = ""


class Leader(Event):
    """On `scaler`, keyed `leader`: who acts from here on; the record's offset is its epoch."""

    kind: Literal["leader"] = "leader"
    id: str
    pid: int
    host: str
    at_s: float


class Learned(Event):
    """On `scaler`, keyed `learned/<model>`: what the next scaler should know from the start.

    work_s: seconds of one worker for a request. mean: its tokens read, its tokens written, bytes of its body.
    cost: of a request, a token read and a token written, beside one another. starts_s: how long starts took,
    oldest first; so are the others. pauses_s: for how long there was nothing to do. spells_s: for how long
    requests came. lulls_s: for how long one worker, two, and so on were more than were needed.
    """

    kind: Literal["learned"] = "learned"
    model: str
    work_s: float | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cost: tuple[float, float, float] | None = None
    starts_s: tuple[float, ...] = ()
    pauses_s: tuple[float, ...] = ()
    spells_s: tuple[float, ...] = ()
    lulls_s: tuple[tuple[float, ...], ...] = ()
    at_s: float


class Trusted(Event):
    """On `scaler`, keyed `trusted/<model>`: the latest version of which a worker was well for a while.

    It comes back when a later one is not well. at_s: when that was known.
    """

    kind: Literal["trusted"] = "trusted"
    deployed: ModelDeployed
    at_s: float
