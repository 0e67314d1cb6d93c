"""The actuator `kubernetes` on a real API server with its controllers; kwok plays the nodes."""

from pathlib import Path

import pytest
from lightkube import AsyncClient
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.core_v1 import ResourceQuotaSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment as RawDeployment
from lightkube.resources.apps_v1 import DeploymentScale
from lightkube.resources.core_v1 import Node, NodeStatus, Pod, PodEviction, PodStatus, ResourceQuota
from lightkube.resources.rbac_authorization_v1 import Role
from lightkube.types import PatchType
from tests.kubernetes.bench import MODEL, VERSION, Bench, bench, settings, template
from tests.kubernetes.control_plane import FAKE, GPUS, ControlPlane

from headrace.contracts.errors import SetupError, Unavailable
from headrace.contracts.topics import Lane
from headrace.core.journal import InFlight
from headrace.scaler.actuator import Cause
from headrace.scaler.actuators.kubernetes import names
from headrace.scaler.actuators.kubernetes.actuator import Kubernetes
from headrace.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NAME = f"acme--schat-1--d5-{VERSION}"


async def test_what_is_ordered_is_there_at_once_and_becomes_pods(one: Bench) -> None:
    assert one.units == {}

    await one.act(start=3)

    assert len(one.staying) == 3
    assert {(unit.model, unit.version) for unit in one.units.values()} == {(MODEL, VERSION)}
    running = await one.until_running(3)
    pods = await one.pods()
    assert sorted(pods) == running
    for name, pod in pods.items():
        (container,) = pod.spec.containers
        said = f"worker --model {MODEL} --version {VERSION} --unit $(POD_NAME) --journal /dev/termination-log"
        assert container.args == said.split()
        assert [(each.name, each.valueFrom.fieldRef.fieldPath) for each in container.env] == [
            ("POD_NAME", "metadata.name")
        ]
        assert container.resources.limits == {GPUS: "1"}
        assert pod.spec.terminationGracePeriodSeconds == 35
        assert pod.spec.nodeName in ("node-1", "node-2")
        assert 0 <= one.units[name].started_at_s - pod.metadata.creationTimestamp.timestamp() < 30


async def test_only_those_named_go(one: Bench) -> None:
    await one.act(start=12)
    there = await one.until_running(12)
    # Neither the oldest nor the newest, which Kubernetes would choose itself.
    victims = {name for number, name in enumerate(there) if number % 4}

    await one.act(stop=victims)

    assert {unit.id for unit in one.units.values() if unit.stopping} == victims
    assert await one.until_running(3) == sorted(set(there) - victims)
    await one.until(lambda: len(one.exits) == 9, "nine exits")
    assert {(each.unit.id, each.cause, each.is_gone) for each in one.exits} == {
        (name, Cause.ASKED, True) for name in victims
    }
    await one.act(stop=one.staying)
    await one.until(lambda: not one.units, "none")
    assert (await one.deployments())[NAME].spec.replicas == 0, "it may be needed again"


async def test_whoever_was_to_go_and_did_not_may_stay(one: Bench, client: AsyncClient) -> None:
    await one.act(start=3)
    first, second, third = await one.until_running(3)
    # As a scaler would leave it that died between the two steps.
    mark = {"metadata": {"annotations": {names.COST: "-1000000"}}}
    await client.patch(Pod, first, mark, namespace=one.namespace, patch_type=PatchType.MERGE)
    await one.until(lambda: one.actuator._pods.found[first].cost < 0, "the mark")
    assert one.staying == {first, second, third}

    await one.act(stop=[second])

    assert await one.until_running(2) == [first, third]
    assert names.COST not in (await one.pods())[first].metadata.annotations


async def test_another_instance_sees_the_same(one: Bench, given: Settings) -> None:
    await one.act(start=4)
    there = await one.until_running(4)
    before = one.units
    async with bench(given, one.client, one.namespace) as other:
        assert other.units == before
        assert await other.until_running(4) == there
        await other.act(start=1, epoch=2)
        assert len(other.staying) == 5
        await one.until(lambda: len(one.staying) == 5, "what the other did")


async def test_an_older_epoch_is_refused(one: Bench, given: Settings) -> None:
    await one.act(start=2, epoch=7)
    there = await one.until_running(2)
    async with bench(given, one.client, one.namespace) as newer:
        await newer.act(start=1, epoch=8)
        await one.until_running(3)

        with pytest.raises(Unavailable, match=r"obeys a newer scaler: headrace\.dev/epoch is 8, ours 7"):
            await one.act(stop=there, epoch=7)

        assert (await one.deployments())[NAME].spec.replicas == 3
        assert len(await newer.until_running(3)) == 3


async def test_nothing_is_done_to_what_has_changed_since(one: Bench, client: AsyncClient) -> None:
    await one.act(start=2)
    await one.until_running(2)
    # As it is when the watch is slower than the scaler.
    known = one.actuator._deployments.found[NAME]
    scale = DeploymentScale(metadata=ObjectMeta(name=NAME), spec=ScaleSpec(replicas=5))
    await client.replace(scale, NAME, namespace=one.namespace)

    with pytest.raises(Unavailable, match="another scale than a moment ago"):
        await one.actuator._writer.renew(known, epoch=1)

    await one.until(lambda: len(one.staying) == 5, "what somebody else has set")


async def test_a_worker_that_dies_in_its_pod(one: Bench, client: AsyncClient) -> None:
    await one.act(start=1)
    (name,) = await one.until_running(1)

    async def dies(number: int, **terminated: object) -> None:
        now = "2026-01-02T03:04:05Z"
        ended = {"startedAt": now, "finishedAt": now, "containerID": f"test://{number}", **terminated}
        status = {
            "name": "worker",
            "image": "headrace:test",
            "imageID": "",
            "ready": True,
            "restartCount": number,
            "state": {"running": {"startedAt": now}},
            "lastState": {"terminated": ended},
        }
        change = {"status": {"containerStatuses": [status]}}
        await client.patch(PodStatus, name, change, namespace=one.namespace, patch_type=PatchType.MERGE)

    await dies(1, exitCode=139, reason="Error", message="D0200070000000000ff\n")
    await dies(2, exitCode=137, reason="OOMKilled")
    await dies(3, exitCode=86, reason="Error")
    await dies(4, exitCode=137, reason="Error")
    await dies(5, exitCode=1, reason="Error")
    await dies(6, exitCode=0, reason="Completed")
    await one.until(lambda: len(one.exits) == 6, "six exits")
    assert [(each.cause, each.is_gone) for each in one.exits] == [
        (Cause.CRASHED, False),
        (Cause.CRASHED, False),
        (Cause.CRASHED, False),
        (Cause.KILLED, False),
        (Cause.FAILED, False),
        (Cause.ASKED, False),
    ]
    assert one.exits[0].in_flight == (InFlight(Lane.DEFAULT, 7, 255, 2),)
    assert one.exits[0].at_s == 1767323045.0
    assert "OOMKilled" in one.exits[1].reason
    assert one.staying == {name}


async def test_a_pod_that_is_evicted(one: Bench, client: AsyncClient) -> None:
    await one.act(start=1)
    (name,) = await one.until_running(1)

    eviction = PodEviction(metadata=ObjectMeta(name=name, namespace=one.namespace))
    await client.create(eviction, name, namespace=one.namespace)

    await one.until(lambda: one.exits, "the exit")
    (ended,) = one.exits
    assert (ended.unit.id, ended.cause, ended.is_gone) == (name, Cause.KILLED, True)
    assert "Eviction" in ended.reason
    (follower,) = await one.until_running(1)
    assert follower != name


async def test_a_node_that_falls_silent(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path, client: AsyncClient, namespace: str
) -> None:
    await plane.node("doomed", 1, FAKE | {"of": namespace})
    tolerated = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    path = template(
        tmp_path, nodeSelector={"of": namespace}, tolerations=[tolerated | {"tolerationSeconds": 1}]
    )
    async with bench(settings(kubeconfig, path), client, namespace) as one:
        await one.act(start=1)
        (name,) = await one.until_running(1)
        # kwok plays it no more; what the node controller would note is noted here.
        silent = {"metadata": {"labels": dict.fromkeys(FAKE)}}
        await client.patch(Node, "doomed", silent, patch_type=PatchType.MERGE)
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        change = {"status": {"conditions": [unknown]}}
        await client.patch(NodeStatus, "doomed", change, patch_type=PatchType.STRATEGIC)

        await one.until(lambda: one.units[name].stopping, "the pod to be given up")
        await one.until(
            lambda: any("Unschedulable" in one.units[other].note for other in one.staying),
            "its follower to wait for a node",
        )
        assert one.exits == [], "nobody knows what became of it"
        # As the operator does, or the pod garbage collector once the node is removed.
        await client.delete(Pod, name, namespace=namespace, grace_period=0)
        await one.until(lambda: one.exits, "the exit")
        assert (one.exits[0].cause, one.exits[0].unit.id) == (Cause.KILLED, name)
        assert "Taint" in one.exits[0].reason
        await client.delete(Node, "doomed")


async def test_a_pod_that_finds_no_node_says_so(
    kubeconfig: Path, tmp_path: Path, client: AsyncClient, namespace: str
) -> None:
    async with bench(settings(kubeconfig, template(tmp_path, gpus=500)), client, namespace) as one:
        await one.act(start=1)
        await one.until(lambda: all(unit.note for unit in one.units.values()), "the reason")
        (unit,) = one.units.values()
        assert unit.note.startswith("Unschedulable: 0/")
        assert f"Insufficient {GPUS}" in unit.note
        await one.act(stop=[unit.id])
        await one.until(lambda: not one.units, "it to go")
        assert [(each.cause, each.reason) for each in one.exits] == [
            (Cause.ASKED, "was taken away before it began")
        ]


async def test_a_replica_that_gets_no_pod_says_so(one: Bench, client: AsyncClient) -> None:
    quota = ResourceQuotaSpec(hard={"pods": "1"})
    await client.create(ResourceQuota(metadata=ObjectMeta(name="one"), spec=quota), namespace=one.namespace)
    await one.act(start=2)
    missing = f"{NAME}/0"
    await one.until(lambda: missing in one.units and one.units[missing].note, "the reason")
    assert "exceeded quota" in one.units[missing].note
    (there,) = one.staying - {missing}

    await one.act(stop=[missing])

    assert await one.until_running(1) == [there]


async def test_whoever_hangs_is_killed_and_not_followed(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path, client: AsyncClient, namespace: str
) -> None:
    await plane.node("hanging", 2, FAKE | {"of": namespace})
    path = template(tmp_path, nodeSelector={"of": namespace})
    async with bench(settings(kubeconfig, path), client, namespace) as one:
        await one.act(start=2)
        hung, other = await one.until_running(2)
        # Nobody ends its containers any more.
        silent = {"metadata": {"labels": dict.fromkeys(FAKE)}}
        await client.patch(Node, "hanging", silent, patch_type=PatchType.MERGE)

        await one.act(stop=[hung], force=True)

        await one.until(lambda: one.actuator._pods.found[hung].is_leaving, "Kubernetes to begin")
        assert one.units[hung].stopping
        await one.act()
        assert await one.until_running(1) == [other]
        assert (await one.deployments())[NAME].spec.replicas == 1
        await client.delete(Node, "hanging")


async def test_whoever_hangs_may_be_followed(one: Bench) -> None:
    await one.act(start=2)
    hung, other = await one.until_running(2)

    await one.act(stop=[hung], start=1, force=True)

    await one.until(lambda: one.exits and hung not in one.units, "its end")
    assert other in await one.until_running(2)
    assert [(each.unit.id, each.cause) for each in one.exits] == [(hung, Cause.KILLED)]
    assert (await one.deployments())[NAME].spec.replicas == 2


async def test_versions_and_models_that_are_done_leave_nothing(one: Bench) -> None:
    await one.act(start=1)
    old = await one.until_running(1)
    await one.act(start=1, version="b" * 12)
    await one.until_running(2)
    await one.act(stop=old)
    (new,) = await one.until_running(1)
    await one.act()
    assert list(await one.deployments()) == [f"acme--schat-1--d5-{'b' * 12}"]
    await one.act(stop=[new])
    await one.until(lambda: not one.units, "none")
    await one.act(targets=[])
    assert await one.deployments() == {}


async def test_a_deployment_that_another_needs_at_that_moment_is_not_deleted(
    one: Bench, given: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.act(start=1)
    await one.act(stop=await one.until_running(1))
    await one.until(lambda: not one.units, "none")
    async with bench(given, one.client, one.namespace) as newer:
        get = one.actuator._cluster.get

        async def get_and_be_late(name: str) -> RawDeployment:
            found = await get(name)
            await newer.act(start=1, epoch=2)
            return found

        monkeypatch.setattr(one.actuator._cluster, "get", get_and_be_late)

        await one.act(targets=[])

        (name,) = await newer.until_running(1)
        assert (await one.deployments())[NAME].spec.replicas == 1
        # Once nobody needs it, it goes.
        await newer.act(stop=[name], epoch=2)
        await newer.until(lambda: not newer.units, "none")
        await newer.act(targets=[], epoch=2)
        assert await one.deployments() == {}


async def test_a_changed_template_reaches_the_pods(
    one: Bench, kubeconfig: Path, tmp_path: Path, client: AsyncClient
) -> None:
    await one.act(start=2)
    before = await one.until_running(2)
    changed = settings(kubeconfig, template(tmp_path, priorityClassName=None, hostNetwork=True))
    async with bench(changed, client, one.namespace) as other:
        await other.act(epoch=2)
        await other.until(lambda: not set(before) & set(other.units), "new pods")
        await other.until_running(2)
        pods = await other.pods()
        assert all(pods[name].spec.hostNetwork for name in other.units)


async def test_rights_that_are_missing_are_named(
    kubeconfig: Path, given: Settings, client: AsyncClient, namespace: str
) -> None:
    async def may(change: object) -> None:
        await client.patch(
            Role, "headrace-scaler", {"rules": change}, namespace=namespace, patch_type=PatchType.MERGE
        )

    role = await client.get(Role, "headrace-scaler", namespace=namespace)
    rules = [rule.to_dict() for rule in role.rules]
    await may([rule for rule in rules if rule["resources"] != ["deployments/scale"]])
    async with bench(given, client, namespace) as one:
        with pytest.raises(Unavailable, match=r"refuses to update deployments/scale: .*scaler-rbac.yaml"):
            await one.act(start=1)
    await may([rule for rule in rules if rule["resources"] != ["pods"]])
    with pytest.raises(SetupError, match=r"refuses to list pods: .*scaler-rbac.yaml"):
        await Kubernetes(given).start()
    await may([])
    with pytest.raises(SetupError, match="refuses to list deployments"):
        await Kubernetes(given).start()
