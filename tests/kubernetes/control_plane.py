"""A real Kubernetes on this machine: etcd, API server, controllers, scheduler, and nodes that kwok plays.

Its programs are built by `make test-kubernetes`; etcd is Debian's.
"""

import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import pytest
import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from lightkube import AsyncClient, KubeConfig
from lightkube.codecs import load_all_yaml
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.core_v1 import NodeStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, Node, ServiceAccountToken
from tests.parts import lacks, require
from tests.stack import ROOT, wait_until

from headrace.devstack.ports import HOST, free

FAKE: Final = {"headrace.dev/nodes": "kwok"}
"""Label of the nodes that kwok plays: pods on them seem to run at once."""
GPUS: Final = "nvidia.com/gpu"
PARTS: Final = ROOT / ".parts" / "kubernetes"

_RBAC: Final = ROOT / "infra" / "kubernetes" / "scaler-rbac.yaml"
_CONTROLLERS: Final = (
    *("deployment-controller", "replicaset-controller", "garbage-collector-controller"),
    *("node-lifecycle-controller", "taint-eviction-controller", "pod-garbage-collector-controller"),
    *("namespace-controller", "resourcequota-controller"),
)


class ControlPlane:
    """All its processes, in `folder`; each ends with `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._etcd = require("etcd", "etcd-server")
        if not (PARTS / "kwok").exists():
            lacks("Kubernetes is not built here: make test-kubernetes")
        self._ports = free(6)
        self.url = f"https://{HOST}:{self._ports[2]}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        server = authority.issue_cert(HOST)
        server.private_key_pem.write_to_path(str(folder / "server.key"))
        server.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
        self._admin = self._kubeconfig("admin", "admin", "default")
        self._write_keys()
        (folder / "tokens.csv").write_text("admin,admin,admin,system:masters\n")

    def start(self) -> None:
        """Start them, one after the other."""
        client, peer = self._ports[:2]
        self._run(
            "etcd",
            self._etcd,
            *("--data-dir", str(self._folder / "etcd")),
            *("--listen-client-urls", f"http://{HOST}:{client}"),
            *("--advertise-client-urls", f"http://{HOST}:{client}"),
            *("--listen-peer-urls", f"http://{HOST}:{peer}"),
            *("--initial-advertise-peer-urls", f"http://{HOST}:{peer}"),
            *("--initial-cluster", f"default=http://{HOST}:{peer}"),
        )
        self.start_api()
        self._run(
            "kube-controller-manager",
            *self._part("kube-controller-manager", self._ports[3]),
            *("--service-account-private-key-file", str(self._folder / "sa.key")),
            "--use-service-account-credentials=false",
            f"--controllers={','.join(_CONTROLLERS)}",
            # kwok's nodes say every 50 seconds that they are well.
            *("--node-monitor-period=1s", "--node-monitor-grace-period=5m"),
        )
        self._run("kube-scheduler", *self._part("kube-scheduler", self._ports[4]))
        self._run(
            "kwok",
            *(str(PARTS / "kwok"), f"--kubeconfig={self._admin}"),
            *(f"--manage-nodes-with-label-selector={'='.join(*FAKE.items())}", "--manage-all-nodes=false"),
            *("--node-lease-duration-seconds=0", f"--server-address={HOST}:{self._ports[5]}"),
        )

    def start_api(self) -> None:
        """Start the API server, and wait until it answers."""
        self._run(
            "kube-apiserver",
            *(str(PARTS / "kube-apiserver"), "--etcd-servers", f"http://{HOST}:{self._ports[0]}"),
            *("--bind-address", HOST, "--advertise-address", HOST, "--secure-port", str(self._ports[2])),
            *("--cert-dir", str(self._folder / "certificates")),
            *("--tls-cert-file", str(self._folder / "server.pem")),
            *("--tls-private-key-file", str(self._folder / "server.key")),
            *("--service-account-issuer", self.url),
            *("--service-account-key-file", str(self._folder / "sa.pub")),
            *("--service-account-signing-key-file", str(self._folder / "sa.key")),
            *("--token-auth-file", str(self._folder / "tokens.csv"), "--authorization-mode=RBAC"),
            # Debian's etcd cannot do this, and kwok would ask again and again, ever more slowly.
            "--feature-gates=WatchList=false",
            "--service-cluster-ip-range=10.0.0.0/24",
            # No controller makes the accounts' tokens here.
            "--disable-admission-plugins=ServiceAccount",
        )
        wait_until(self._answers, "the API server", 60)

    def kill(self, name: str) -> None:
        """SIGKILL to one of the processes."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End them all; nothing that they keep is needed."""
        for name in reversed(list(self._running)):
            self.kill(name)

    def client(self) -> AsyncClient:
        """Who may do everything."""
        return AsyncClient(KubeConfig.from_file(self._admin))

    async def furnish(self, namespace: str) -> Path:
        """A new namespace with the scaler's account and rights; the kubeconfig of that account."""
        client = self.client()
        await client.create(Namespace(metadata=ObjectMeta(name=namespace)))
        for each in load_all_yaml(
            _RBAC.read_text().replace("namespace: headrace", f"namespace: {namespace}")
        ):
            await client.create(each)
        asked = ServiceAccountToken(metadata=ObjectMeta(), spec=TokenRequestSpec(audiences=[]))
        given = await client.create(asked, "headrace-scaler", namespace=namespace)
        await client.close()
        assert given.status is not None
        return self._kubeconfig(f"scaler-{namespace}", given.status.token, namespace)

    async def node(self, name: str, gpus: int, labels: Mapping[str, str] = FAKE) -> None:
        """A node with so many GPUs; it is ready when whoever plays it says so."""
        client = self.client()
        amounts = {"cpu": "1000", "memory": "1Ti", "pods": "1000", GPUS: str(gpus)}
        status = NodeStatus(allocatable=amounts, capacity=amounts)
        await client.create(Node(metadata=ObjectMeta(name=name, labels=dict(labels)), status=status))
        await client.close()

    def _part(self, name: str, port: int) -> list[str]:
        files = (f"--{kind}kubeconfig={self._admin}" for kind in ("", "authentication-", "authorization-"))
        return [
            str(PARTS / name),
            *files,
            "--leader-elect=false",
            f"--secure-port={port}",
            f"--bind-address={HOST}",
        ]

    def _run(self, name: str, *command: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)

    def _answers(self) -> bool:
        if self._running["kube-apiserver"].poll() is not None:
            pytest.fail((self._folder / "kube-apiserver.log").read_text(errors="replace")[-3000:])
        context = ssl.create_default_context(cafile=str(self._folder / "ca.pem"))
        try:
            answer = httpx.get(
                f"{self.url}/readyz", verify=context, headers={"authorization": "Bearer admin"}
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _kubeconfig(self, user: str, token: str, namespace: str) -> Path:
        """A file by which the user reaches the API server."""
        path = self._folder / f"{user}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self._folder / "ca.pem")}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "here", "user": user, "namespace": namespace}}
            ],
            "current-context": "here",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def _write_keys(self) -> None:
        """What signs the tokens of service accounts."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self._folder / "sa.key").write_bytes(private)
        (self._folder / "sa.pub").write_bytes(public)
