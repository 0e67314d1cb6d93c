"""What the actuator knows of a Deployment and of a pod. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deployment:
    """The pods of a version of a model. `revision` grows with every change; `note`: why pods are missing."""

    name: str
    revision: int
    model: str
    version: str
    epoch: int
    template: str
    replicas: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Termination:
    """A container that ended. `message` is what it left for whoever asks: the worker's journal."""

    id: str
    exit_code: int
    reason: str
    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, and its container `worker`.

    found_at_s: when it found a node. anew_at_s: when the last worker in it ended, or another followed it.
    is_leaving: it was deleted, and may still drain. cost: the lowest goes first; 0 where nothing is said.
    note: why it does not run. disruption: why the cluster took it away, if it did.
    ended: the worker that ended last; `is_running`: another has followed it.
    """

    name: str
    uid: str
    revision: int
    deployment: str
    model: str
    version: str
    created_at_s: float
    phase: str
    is_leaving: bool = False
    is_assigned: bool = False
    is_ready: bool = False
    is_running: bool = False
    cost: int = 0
    note: str = ""
    disruption: str = ""
    ended: Termination | None = None
    found_at_s: float = 0.0
    anew_at_s: float = 0.0

    @property
    def started_at_s(self) -> float:
        """When its worker could begin to start: what went before says nothing of how long that takes."""
        return max(self.created_at_s, self.found_at_s, self.anew_at_s)

    @property
    def is_over(self) -> bool:
        """Nothing runs in it, and nothing will."""
        return self.phase in ("Succeeded", "Failed") or (
            self.is_leaving and self.ended is not None and not self.is_running
        )

    @property
    def counts(self) -> bool:
        """Whether Kubernetes counts it among its Deployment's replicas."""
        return not self.is_leaving and self.phase not in ("Succeeded", "Failed")
