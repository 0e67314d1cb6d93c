"""Which units there are, by the Deployments and pods of a cluster. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.scaler.actuator import Unit
from headrace.scaler.actuators.kubernetes.objects import Deployment, Pod

_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Standing:
    """Pods of a Deployment that are to stay, those that are to go, and how many replicas have no pod yet."""

    deployment: Deployment
    staying: Sequence[Pod]
    leaving: Sequence[Pod]
    missing: int

    @property
    def is_empty(self) -> bool:
        """Nobody is there or will come."""
        return not self.staying and not self.leaving and self.deployment.replicas == 0


def standings(deployments: Mapping[str, Deployment], pods: Mapping[str, Pod]) -> dict[str, Standing]:
    """Each Deployment's, by its name."""
    mine: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in pods.values():
        if not pod.is_over:
            mine[pod.deployment].append(pod)
    return {name: _standing(deployment, mine[name]) for name, deployment in deployments.items()}


def _standing(deployment: Deployment, pods: Iterable[Pod]) -> Standing:
    counted = sorted((pod for pod in pods if pod.counts), key=_rank)
    # The scale is lower already, and Kubernetes will delete these in a moment.
    surplus = max(0, len(counted) - deployment.replicas)
    leaving = [pod for pod in pods if not pod.counts] + counted[:surplus]
    return Standing(deployment, counted[surplus:], leaving, max(0, deployment.replicas - len(counted)))


def _rank(pod: Pod) -> tuple[bool, int, bool, int, float, str]:
    """Who goes first, as Kubernetes' ReplicaSet controller orders them: the cost comes after readiness."""
    phase = _PHASES.get(pod.phase, 0)
    return (pod.is_assigned, phase, pod.is_ready, pod.cost, -pod.created_at_s, pod.name)


def units(
    deployments: Mapping[str, Deployment], pods: Mapping[str, Pod], since_s: Mapping[str, float], now_s: float
) -> list[Unit]:
    """As the scaler sees them; a replica without a pod has a number, and began when it was seen first."""
    found = []
    for each in standings(deployments, pods).values():
        found += [_unit(pod, stopping=False) for pod in each.staying]
        found += [_unit(pod, stopping=True) for pod in each.leaving]
        its = each.deployment
        for name in (f"{its.name}/{number}" for number in range(each.missing)):
            found.append(Unit(name, its.model, its.version, since_s.get(name, now_s), note=its.note))
    orphans = (pod for pod in pods.values() if pod.deployment not in deployments and not pod.is_over)
    return found + [_unit(pod, stopping=True) for pod in orphans]


def is_placeholder(unit_id: str) -> bool:
    """Whether it is a replica without a pod."""
    return "/" in unit_id


def deployment_of(unit_id: str, pods: Mapping[str, Pod]) -> str | None:
    """The name of its Deployment; None: it is gone."""
    if is_placeholder(unit_id):
        return unit_id.partition("/")[0]
    pod = pods.get(unit_id)
    return pod.deployment if pod is not None else None


def unneeded(standings: Iterable[Standing], models: Iterable[str]) -> list[str]:
    """Empty Deployments of models that are gone, and of versions that another has followed."""
    standings, models = list(standings), set(models)
    served = {each.deployment.model for each in standings if each.deployment.replicas > 0}
    return [
        each.deployment.name
        for each in standings
        if each.is_empty and (each.deployment.model not in models or each.deployment.model in served)
    ]


def _unit(pod: Pod, *, stopping: bool) -> Unit:
    return Unit(pod.name, pod.model, pod.version, pod.started_at_s, stopping=stopping, note=pod.note)
