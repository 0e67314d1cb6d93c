"""Events of the control plane: what is deployed, who is alive, what to cancel.

Values are JSON; compacted topics are keyed as each class says. A tombstone (no value) removes the key.
"""

from enum import StrEnum
from typing import Final, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.manifest import Manifest
from headrace.contracts.tensors import Signature

ENGINE_DIED: Final = 86
"""Exit code of a worker whose engine can serve no more."""
UNWELL: Final = 87
"""Exit code of a worker whose canaries failed. It has said why, and left its group."""
BURIED: Final = 88
"""Exit code of a worker that has heard its own obituary: others have what it held."""
MAX_RUNNING: Final = 256
"""Jobs that a heartbeat names; a record of 15 kB."""


class Event(BaseModel):
    """A JSON event. Unknown fields are ignored: a newer sender must not stop an older reader."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> bytes:
        """The record value."""
        return orjson.dumps(self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read a record value.

        Raises:
            InvalidRequest: the value is not this event.
        """
        try:
            return cls.model_validate_json(value)
        except ValidationError as error:
            raise InvalidRequest(f"Not a {cls.__name__} event: {error}") from None


class RolledBack(Event):
    """A version that was taken out again. at_s: Unix time."""

    version: str
    reason: str
    at_s: float


class ModelDeployed(Event):
    """On `models`, keyed by model name: this version answers from now on.

    version: digest of the function's files, so the same folder is always the same version.
    package_url: where the packed function lies, for example `s3://bucket/functions/<version>.zip`.
    retiring: it takes no more requests; when what it has is done, it and its topics go.
    returning: it was deployed while it was retiring. Whoever removes topics sees that it has some, and then
        writes it without both.
    rolled_back: the version that was deployed after this one, and was not well.
    """

    name: str
    slug: str
    version: str
    package_url: str
    manifest: Manifest
    partitions: int
    deployed_at_s: float
    retiring: bool = False
    returning: bool = False
    rolled_back: RolledBack | None = None

    @property
    def is_leaving(self) -> bool:
        """Whether it is to go, and nobody wants it back."""
        return self.retiring and not self.returning


class WorkerState(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class WorkerHeartbeat(Event):
    """On `workers`, keyed by worker id, every two seconds and at every change of state.

    member_id: the worker's id in its consumer group, so that whoever sees it die can send LeaveGroup
        for it (the obituary) and its partitions move at once.
    signature: of a model that takes tensors, once it is loaded.
    running: ids of jobs that it runs now, the first `MAX_RUNNING` of them.
    unit: what it runs in, as its actuator names it (a pod); None: that is called as the worker is.
    canary_at_s, canary_s: when it was last found well, and how long its canary took; None before the first.
    ailing: why the latest canary failed.
    completed, tokens, busy_s, slot_s, held_s: since it started: requests that were run, their tokens in and
        out, seconds with something to do, and seconds summed over requests: of ended ones, and with what
        others have taken beyond the mean of those. tokens_out: those of `tokens` that it wrote.
        body_bytes: of the completed requests.
    settled: offsets that it has done with since it started, so that they are, or will be, committed.
    """

    kind: Literal["worker"] = "worker"
    id: str
    pid: int
    host: str
    model: str
    version: str
    state: WorkerState
    in_flight: int
    capacity: int
    completed: int = 0
    tokens: int = 0
    tokens_out: int = 0
    body_bytes: int = 0
    settled: int = 0
    busy_s: float = 0.0
    slot_s: float = 0.0
    held_s: float = 0.0
    member_id: str | None = None
    group: str | None = None
    started_at_s: float
    sent_at_s: float
    reason: str | None = None
    signature: Signature | None = None
    running: tuple[str, ...] = ()
    unit: str | None = None
    canary_at_s: float | None = None
    canary_s: float | None = None
    ailing: str | None = None

    @property
    def in_unit(self) -> str:
        """What it runs in."""
        return self.unit or self.id


class GatewayHeartbeat(Event):
    """On `workers`, keyed by gateway id: which reply partition it reads, so that others choose another."""

    kind: Literal["gateway"] = "gateway"
    id: str
    pid: int
    host: str
    reply_partition: int
    sent_at_s: float


class Cancel(Event):
    """On `control`, keyed by request id: whoever runs it stops; whoever has not started does not.

    With a batch's id it is of all its lines: none is started any more; those that run may finish.
    """

    kind: Literal["cancel"] = "cancel"
    request_id: str
    reason: str
    sent_at_s: float


class Obituary(Event):
    """On `control`, keyed `obituary/<worker>`: the worker is dead, whatever it held is free.

    blamed: when its engine or the process itself crashed: what was in flight, each as (topic, partition,
        offset, crashes so far, group), as `core.blame` says. Empty when it was killed from outside, or its
        machine was lost.
    """

    kind: Literal["obituary"] = "obituary"
    worker: str
    group: str
    blamed: tuple[tuple[str, int, int, int, str], ...] = ()
    sent_at_s: float


class Handover(Event):
    """On `control`, keyed `handover/<worker>/<topic>/<partition>`: how requests of a lost partition stand.

    A worker that loses a partition goes on with what it runs; whoever has the partition now leaves these
    offsets alone. Each event says all that is known, so that the latest is enough.

    done: offsets whose fate is durable. running: offsets still running, held until `until_s`; whatever is
        in neither is free.
    """

    kind: Literal["handover"] = "handover"
    worker: str
    topic: str
    partition: int
    done: tuple[int, ...] = ()
    running: tuple[int, ...] = ()
    until_s: float
