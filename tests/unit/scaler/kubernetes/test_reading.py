"""What Kubernetes' objects say."""

from datetime import UTC, datetime

import pytest
from lightkube.resources.apps_v1 import Deployment as RawDeployment
from lightkube.resources.core_v1 import Pod as RawPod

from headrace.scaler.actuator import Cause
from headrace.scaler.actuators.kubernetes import names, reading
from headrace.scaler.actuators.kubernetes.deaths import Deaths
from headrace.scaler.actuators.kubernetes.objects import Pod, Termination

_AT = "2026-01-02T03:04:05Z"
_AT_S = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
_OURS = {names.MODEL: "acme/Chat", names.VERSION: "0123456789ab"}


def raw(status: dict, **meta: object) -> RawPod:
    metadata = {
        "name": "chat-1-x",
        "uid": "u",
        "resourceVersion": "17",
        "creationTimestamp": _AT,
        "labels": {names.DEPLOYMENT: "chat-1"},
        "annotations": _OURS,
    }
    spec = {"nodeName": "n", "containers": [{"name": "worker"}]}
    return RawPod.from_dict({"metadata": metadata | meta, "spec": spec, "status": status})


def container(name: str = "worker", **states: dict) -> dict:
    return {"name": name, "image": "", "imageID": "", "ready": True, "restartCount": 0, **states}


def test_containers_of_a_node_that_began_anew_have_neither_name_nor_time():
    def at(number: int, **states: dict) -> Pod:
        held = container(**states) | {"restartCount": number}
        return reading.pod(raw({"phase": "Running", "containerStatuses": [held]}))

    lost = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}
    first, again = at(0, state=lost), at(1, state={"running": {"startedAt": _AT}}, lastState=lost)
    second = at(2, state={"running": {"startedAt": _AT}}, lastState=lost)
    assert first.ended.id == again.ended.id != second.ended.id
    deaths = Deaths()
    for pod in (at(0, state={"running": {"startedAt": _AT}}), again, second):
        told = deaths.see(pod, _AT_S + 60.0)
    assert (told.cause, told.at_s) == (Cause.KILLED, _AT_S)


def test_a_container_that_was_put_beside_the_only_one_is_not_the_worker():
    ended = {"terminated": {"exitCode": 139, "finishedAt": _AT, "containerID": "c://1"}}
    beside, mine = (
        container("istio-proxy", state={"running": {"startedAt": _AT}}),
        container("main", state=ended),
    )
    status = {"phase": "Running", "containerStatuses": [beside, mine]}
    pod = reading.pod(raw(status, annotations=_OURS | {names.CONTAINER: "main"}))
    assert (pod.is_running, pod.ended.exit_code) == (False, 139)


def condition(name: str, status: str, **more: str) -> dict:
    return {"type": name, "status": status, **more}


def test_a_pod_that_runs():
    conditions = [condition("PodScheduled", "True"), condition("Ready", "True")]
    statuses = [container("proxy", state={"waiting": {}}), container(state={"running": {"startedAt": _AT}})]
    pod = reading.pod(raw({"phase": "Running", "conditions": conditions, "containerStatuses": statuses}))
    assert (pod.name, pod.uid, pod.revision, pod.deployment) == ("chat-1-x", "u", 17, "chat-1")
    assert (pod.model, pod.version, pod.created_at_s) == ("acme/Chat", "0123456789ab", _AT_S)
    assert (pod.phase, pod.is_ready, pod.is_running, pod.is_assigned) == ("Running", True, True, True)
    assert (pod.is_leaving, pod.cost, pod.note, pod.disruption, pod.ended) == (False, 0, "", "", None)


@pytest.mark.parametrize("state", ["state", "lastState"])
def test_a_container_that_ended(state):
    ended = {"exitCode": 139, "reason": "Error", "message": "D…", "finishedAt": _AT, "containerID": "c://1"}
    pod = reading.pod(
        raw({"phase": "Running", "containerStatuses": [container(**{state: {"terminated": ended}})]})
    )
    assert pod.ended == Termination("c://1", 139, "Error", "D…", _AT_S)


def test_a_start_begins_where_there_is_room_and_anew_in_the_same_pod():
    scheduled = condition("PodScheduled", "True", lastTransitionTime="2026-01-02T03:34:05Z")
    waiting = condition("PodScheduled", "False", lastTransitionTime="2026-01-02T03:34:05Z")
    began = {"startedAt": "2026-01-02T03:35:05Z"}
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-02T05:04:05Z", "containerID": "c://1"}}
    anew = {"running": {"startedAt": "2026-01-02T05:09:05Z"}}
    for conditions, states, began_s in (
        ([waiting], {}, _AT_S),
        ([scheduled], {}, _AT_S + 1800),
        ([scheduled], {"state": {"running": began}}, _AT_S + 1800),
        ([scheduled], {"state": {"waiting": {}}, "lastState": ended}, _AT_S + 7200),
        ([scheduled], {"state": anew, "lastState": ended}, _AT_S + 7500),
    ):
        status = {"phase": "Pending", "conditions": conditions, "containerStatuses": [container(**states)]}
        assert reading.pod(raw(status)).started_at_s == began_s


@pytest.mark.parametrize(
    ("status", "note"),
    [
        ({}, ""),
        ({"containerStatuses": [container(state={"waiting": {"reason": "ContainerCreating"}})]}, ""),
        (
            {
                "containerStatuses": [
                    container(state={"waiting": {"reason": "ImagePullBackOff", "message": "no x"}})
                ]
            },
            "ImagePullBackOff: no x",
        ),
        (
            {"containerStatuses": [container(state={"waiting": {"reason": "CrashLoopBackOff"}})]},
            "CrashLoopBackOff",
        ),
        (
            {
                "containerStatuses": [container(state={"waiting": {"reason": "PodInitializing"}})],
                "initContainerStatuses": [container("load", state={"waiting": {"reason": "ErrImagePull"}})],
            },
            "load: ErrImagePull",
        ),
        (
            {"conditions": [condition("PodScheduled", "False", reason="Unschedulable", message="0/2 nodes")]},
            "Unschedulable: 0/2 nodes",
        ),
    ],
)
def test_a_pod_that_does_not_run_says_why(status, note):
    assert reading.pod(raw({"phase": "Pending", **status})).note == note


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {
                "conditions": [
                    condition("DisruptionTarget", "True", reason="PreemptionByScheduler", message="for y")
                ]
            },
            "PreemptionByScheduler: for y",
        ),
        ({"reason": "Evicted", "message": "low on memory"}, "Evicted: low on memory"),
    ],
)
def test_a_pod_that_the_cluster_ended_says_why(status, words):
    assert reading.pod(raw({"phase": "Failed", **status})).disruption == words


def test_a_pod_that_leaves():
    pod = reading.pod(raw({}, deletionTimestamp=_AT, annotations=_OURS | {names.COST: "-7"}))
    assert (pod.phase, pod.is_leaving, pod.cost) == ("Pending", True, -7)


def test_a_deployment():
    annotations = _OURS | {names.EPOCH: "5", names.TEMPLATE: "abc"}
    failure = condition("ReplicaFailure", "True", reason="FailedCreate", message="exceeded quota")
    document = {
        "metadata": {"name": "chat-1", "resourceVersion": "9", "annotations": annotations},
        "spec": {"replicas": 3, "selector": {}, "template": {}},
        "status": {"conditions": [failure]},
    }
    found = reading.deployment(RawDeployment.from_dict(document))
    assert (found.name, found.revision, found.epoch, found.template) == ("chat-1", 9, 5, "abc")
    assert (found.replicas, found.note) == (3, "FailedCreate: exceeded quota")


@pytest.mark.parametrize("annotations", [None, {}, {names.MODEL: "chat"}])
def test_what_only_has_our_label_is_not_ours(annotations):
    assert reading.pod(raw({}, annotations=annotations)) is None
    document = {
        "metadata": {"name": "x", "annotations": annotations},
        "spec": {"selector": {}, "template": {}},
    }
    assert reading.deployment(RawDeployment.from_dict(document)) is None


def test_what_others_wrote_there_is_no_number():
    assert reading.pod(raw({}, annotations=_OURS | {names.COST: "cheap"})).cost == 0
