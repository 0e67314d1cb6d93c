"""Units by Deployments and pods; that Kubernetes chooses as we say is shown in tests/kubernetes."""

from dataclasses import replace

from headrace.scaler.actuator import Unit
from headrace.scaler.actuators.kubernetes.objects import Deployment, Pod, Termination
from headrace.scaler.actuators.kubernetes.standing import deployment_of, standings, units, unneeded

CHAT = Deployment("chat-1", 1, "chat", "1", epoch=3, template="t", replicas=3)


def pod(name: str, **changes: object) -> Pod:
    plain = Pod(
        *(name, f"uid-{name}", 1, "chat-1", "chat", "1"),
        created_at_s=100.0,
        phase="Running",
        is_assigned=True,
        is_ready=True,
        is_running=True,
    )
    return replace(plain, **changes)


def found(deployment: Deployment, *pods: Pod) -> dict[str, Unit]:
    these = {each.name: each for each in pods}
    return {unit.id: unit for unit in units({deployment.name: deployment}, these, {"chat-1/0": 50.0}, 200.0)}


def test_who_began_anew_in_its_pod_has_begun_a_moment_ago():
    assert found(replace(CHAT, replicas=1), pod("a", found_at_s=101.0))["a"].started_at_s == 101.0
    assert found(replace(CHAT, replicas=1), pod("a", anew_at_s=9000.0))["a"].started_at_s == 9000.0


def test_a_replica_without_a_pod_is_a_unit_that_starts():
    there = found(replace(CHAT, note="exceeded quota"), pod("a"))
    assert there == {
        "a": Unit("a", "chat", "1", 100.0),
        "chat-1/0": Unit("chat-1/0", "chat", "1", 50.0, note="exceeded quota"),
        "chat-1/1": Unit("chat-1/1", "chat", "1", 200.0, note="exceeded quota"),
    }


def test_what_the_scale_leaves_over_is_stopping_as_soon_as_it_is_lower():
    pods = [pod("a"), pod("b", cost=-1), pod("c"), pod("d", is_ready=False), pod("e", is_leaving=True)]
    there = found(replace(CHAT, replicas=2), *pods)
    assert {name for name, unit in there.items() if unit.stopping} == {"b", "d", "e"}
    # One that does not run yet goes before one that is cheap.
    (standing,) = standings(
        {CHAT.name: replace(CHAT, replicas=3)}, {each.name: each for each in pods}
    ).values()
    assert {each.name for each in standing.leaving} == {"d", "e"}


def test_a_mark_alone_stops_nobody():
    assert not any(unit.stopping for unit in found(CHAT, pod("a"), pod("b", cost=-1), pod("c")).values())


def test_pods_that_are_over_are_no_units():
    ended = Termination("1", 0, "Completed", "", 150.0)
    gone = pod("a", phase="Failed"), pod("b", is_leaving=True, is_running=False, ended=ended)
    assert set(found(CHAT, *gone)) == {"chat-1/0", "chat-1/1", "chat-1/2"}
    # It runs on while it drains, and it died once before.
    assert "b" in found(CHAT, pod("b", is_leaving=True, ended=ended))


def test_pods_whose_deployment_is_gone_are_going():
    there = units({}, {"a": pod("a")}, {}, 200.0)
    assert there == [Unit("a", "chat", "1", 100.0, stopping=True)]


def test_who_belongs_where():
    assert deployment_of("chat-1/7", {}) == "chat-1"
    assert deployment_of("a", {"a": pod("a")}) == "chat-1"
    assert deployment_of("gone", {}) is None


def test_empty_deployments_go_when_nobody_needs_them():
    empty = replace(CHAT, replicas=0)
    newer = replace(CHAT, name="chat-2", version="2")
    both = {each.name: each for each in (empty, newer)}
    assert unneeded(standings({empty.name: empty}, {}).values(), ["chat"]) == [], "it may be needed again"
    assert unneeded(standings({empty.name: empty}, {}).values(), ["other"]) == ["chat-1"]
    assert unneeded(standings(both, {}).values(), ["chat"]) == ["chat-1"]
    drains = {"a": pod("a", is_leaving=True)}
    assert unneeded(standings(both, drains).values(), ["chat"]) == []
    assert unneeded(standings({CHAT.name: CHAT}, {}).values(), []) == [], "its pods are coming"
