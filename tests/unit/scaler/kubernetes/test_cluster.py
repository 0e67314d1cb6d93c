"""What becomes of errors that a real API server does not give on demand; the rest is in tests/kubernetes."""

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import httpx2
import pytest
import yaml
from lightkube import AsyncClient, KubeConfig
from lightkube.resources.apps_v1 import Deployment

from headrace.contracts.errors import SetupError, Unavailable
from headrace.scaler.actuators.kubernetes.cluster import PODS, Cluster
from headrace.settings import KubernetesSettings

_EXEC = "client.authentication.k8s.io/v1beta1"


def kubeconfig(path: Path, user: dict) -> Path:
    document = {
        "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "x"}}],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(document))
    return path


Answering = Callable[[httpx2.Response], Cluster]


@pytest.fixture
async def answering(tmp_path: Path) -> AsyncIterator[Answering]:
    """A cluster whose API server always gives this answer."""
    path = kubeconfig(tmp_path / "config", {"token": "t"})
    made = []

    def answering(answer: httpx2.Response) -> Cluster:
        cluster = Cluster(KubernetesSettings(kubeconfig=path))
        transport = httpx2.MockTransport(lambda _: answer)
        cluster._client = AsyncClient(KubeConfig.from_file(path).get(), transport=transport)
        made.append(cluster)
        return cluster

    yield answering
    for each in made:
        await each.close()


async def watched(cluster: Cluster) -> None:
    async with aclosing(cluster.watch(PODS, 1)) as changes:
        await anext(changes)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        # A balancer whose servers are gone.
        (httpx2.Response(503), "to get deployments"),
        (httpx2.Response(502, text="bad gateway"), "does not get deployments: status 502"),
        (httpx2.Response(429, text="later", headers={"Retry-After": "1"}), "status 429"),
        (httpx2.Response(200, text="<html>"), "cannot be reached to get deployments"),
        (httpx2.Response(403, json={"message": "no", "code": 403}), "refuses to get deployments: no; "),
        (httpx2.Response(401, json={"message": "no", "code": 401}), "does not accept our credentials"),
    ],
)
async def test_every_answer_that_is_none_is_a_sentence(answering: Answering, answer, words) -> None:
    with pytest.raises(Unavailable, match=words):
        await answering(answer).get("chat-1")


@pytest.mark.parametrize(
    "answer", [httpx2.Response(200, json={"items": []}), httpx2.Response(200, text='{"items": [')]
)
async def test_a_list_that_is_none(answering: Answering, answer) -> None:
    with pytest.raises(Unavailable, match="cannot be reached to list pods"):
        await answering(answer).list(PODS)


@pytest.mark.parametrize(
    "answer", [httpx2.Response(503), httpx2.Response(200, text='{"type": "ADDED", "obj')]
)
async def test_a_watch_that_breaks(answering: Answering, answer) -> None:
    with pytest.raises(Unavailable, match="watch pods"):
        await watched(answering(answer))


async def test_only_what_was_read_is_deleted(tmp_path: Path) -> None:
    cluster = Cluster(KubernetesSettings(kubeconfig=kubeconfig(tmp_path / "config", {"token": "t"})))
    seen = []

    def changed(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content))
        return httpx2.Response(409, json={"message": "the UID or resourceVersion differs", "code": 409})

    transport = httpx2.MockTransport(changed)
    cluster._client = AsyncClient(KubeConfig.from_file(tmp_path / "config").get(), transport=transport)
    meta = {"name": "chat-1", "uid": "u-1", "resourceVersion": "7"}
    spec = {"selector": {}, "template": {}}
    await cluster.delete(Deployment.from_dict({"metadata": meta, "spec": spec}))
    assert [each["preconditions"] for each in seen] == [{"uid": "u-1", "resourceVersion": "7"}]
    await cluster.close()


async def test_a_program_that_does_not_log_us_in(tmp_path: Path) -> None:
    program = {"apiVersion": _EXEC, "command": sys.executable, "args": ["-c", "exit(3)"]}
    cluster = Cluster(KubernetesSettings(kubeconfig=kubeconfig(tmp_path / "config", {"exec": program})))
    with pytest.raises(Unavailable, match=r"cannot be reached to list pods: Exec .* returned 3"):
        await cluster.list(PODS)
    with pytest.raises(Unavailable, match=r"cannot be reached to watch pods: Exec .* returned 3"):
        await watched(cluster)
    await cluster.close()


@pytest.mark.parametrize("text", ["{", "[]", "clusters: []", "current-context: x\ncontexts: []"])
def test_a_kubeconfig_that_is_none(tmp_path: Path, text) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(SetupError, match=r"no way to a Kubernetes cluster: .*; set HEADRACE_") as caught:
        Cluster(KubernetesSettings(kubeconfig=path))
    assert "\n" not in str(caught.value)
