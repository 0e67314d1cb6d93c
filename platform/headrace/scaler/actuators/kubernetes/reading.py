"""Kubernetes' own objects, read into ours. No IO."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from lightkube.models.core_v1 import ContainerState, ContainerStatus, PodStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment as RawDeployment
from lightkube.resources.core_v1 import Pod as RawPod

from headrace.scaler.actuators.kubernetes import names
from headrace.scaler.actuators.kubernetes.objects import Deployment, Pod, Termination

WORKER: Final = "worker"
"""The container that is ours, where there are several."""

_NOTE_CHARS: Final = 300
_USUAL: Final = ("ContainerCreating", "PodInitializing")


def deployment(raw: RawDeployment) -> Deployment | None:
    """None: it is none of ours, whatever its labels say."""
    meta, spec = raw.metadata, raw.spec
    annotations = _annotations(meta)
    if meta is None or names.MODEL not in annotations or names.VERSION not in annotations:
        return None
    return Deployment(
        name=meta.name or "",
        revision=int(meta.resourceVersion or 0),
        model=annotations[names.MODEL],
        version=annotations[names.VERSION],
        epoch=_number(annotations.get(names.EPOCH)),
        template=annotations.get(names.TEMPLATE, ""),
        replicas=1 if spec.replicas is None else spec.replicas,
        note=_failure(raw),
    )


def pod(raw: RawPod) -> Pod | None:
    """None: it is none of ours, whatever its labels say."""
    meta, status = raw.metadata, raw.status or PodStatus()
    annotations = _annotations(meta)
    if meta is None or names.MODEL not in annotations or names.VERSION not in annotations:
        return None
    container = _container(status.containerStatuses or (), annotations.get(names.CONTAINER, WORKER))
    return Pod(
        name=meta.name or "",
        uid=meta.uid or "",
        revision=int(meta.resourceVersion or 0),
        deployment=(meta.labels or {}).get(names.DEPLOYMENT, ""),
        model=annotations[names.MODEL],
        version=annotations[names.VERSION],
        created_at_s=_seconds(meta.creationTimestamp),
        phase=status.phase or "Pending",
        is_leaving=meta.deletionTimestamp is not None,
        is_assigned=bool(raw.spec and raw.spec.nodeName),
        is_ready=_condition(status, "Ready")[0],
        is_running=bool(container and container.state and container.state.running),
        cost=_number(annotations.get(names.COST)),
        note=_note(status, container),
        disruption=_disruption(status),
        ended=_ended(container),
        found_at_s=_since(status, "PodScheduled"),
        anew_at_s=_anew(container),
    )


def _annotations(meta: ObjectMeta | None) -> dict[str, str]:
    return (meta.annotations if meta is not None else None) or {}


def _number(text: str | None) -> int:
    """What others wrote there is nothing to us."""
    try:
        return int(text or 0)
    except ValueError:
        return 0


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment is not None else 0.0


def _container(statuses: Sequence[ContainerStatus], name: str) -> ContainerStatus | None:
    ours = [each for each in statuses if each.name == name] or statuses
    return ours[0] if ours else None


def _ended(container: ContainerStatus | None) -> Termination | None:
    """The last end of the container, in whichever of two places it stands."""
    if container is None:
        return None
    number = container.restartCount
    for state, which in ((container.state, number), (container.lastState, number - 1)):
        found = _termination(state, which)
        if found is not None:
            return found
    return None


def _anew(container: ContainerStatus | None) -> float:
    """Since when another worker than the first one can start; 0: there was none."""
    ended = _ended(container)
    if ended is None:
        return 0.0
    running = container.state.running if container is not None and container.state is not None else None
    return max(ended.at_s, _seconds(running.startedAt) if running is not None else 0.0)


def _termination(state: ContainerState | None, which: int) -> Termination | None:
    """which: of the pod's containers, from 0. Those that a node has lost have no id, and no time."""
    ended = state.terminated if state is not None else None
    if ended is None:
        return None
    code = ended.exitCode or (128 + ended.signal if ended.signal else 0)
    return Termination(
        id=ended.containerID or f"number {which}",
        exit_code=code,
        reason=ended.reason or "",
        message=ended.message or "",
        at_s=_seconds(ended.finishedAt),
    )


def _condition(status: PodStatus, name: str) -> tuple[bool, str, str]:
    """Whether it holds, its reason and its message."""
    for each in status.conditions or ():
        if each.type == name:
            return each.status == "True", each.reason or "", each.message or ""
    return False, "", ""


def _since(status: PodStatus, name: str) -> float:
    """Since when it holds; 0: it does not."""
    held = (each for each in status.conditions or () if each.type == name and each.status == "True")
    return next((_seconds(each.lastTransitionTime) for each in held), 0.0)


def _note(status: PodStatus, container: ContainerStatus | None) -> str:
    """Why the worker does not run."""
    waiting = container.state.waiting if container is not None and container.state is not None else None
    if waiting is not None and waiting.reason not in (None, *_USUAL):
        return _said(waiting.reason or "", waiting.message or "")
    for each in status.initContainerStatuses or ():
        held = each.state.waiting if each.state is not None else None
        if held is not None and held.reason not in (None, *_USUAL):
            return _said(f"{each.name}: {held.reason}", held.message or "")
    is_scheduled, reason, message = _condition(status, "PodScheduled")
    return _said(reason, message) if reason and not is_scheduled else ""


def _disruption(status: PodStatus) -> str:
    """Why the cluster ended it: drained nodes, preemption, lost nodes, too little memory."""
    is_so, reason, message = _condition(status, "DisruptionTarget")
    if is_so:
        return _said(reason, message)
    # Kubelets put their own reason here, for example Evicted or NodeShutdown.
    return _said(status.reason, status.message or "") if status.reason else ""


def _failure(raw: RawDeployment) -> str:
    """Why pods are not even made: a quota, a policy."""
    for each in (raw.status.conditions if raw.status is not None else None) or ():
        if each.type == "ReplicaFailure" and each.status == "True":
            return _said(each.reason or "", each.message or "")
    return ""


def _said(reason: str, message: str) -> str:
    text = f"{reason}: {message}" if message else reason
    return text[:_NOTE_CHARS]
