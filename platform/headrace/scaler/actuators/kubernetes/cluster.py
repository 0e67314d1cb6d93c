"""The API server: lists, watches and changes, with errors that say what to do."""

import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import httpx2
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.core.exceptions import ConfigError, NotReadyError
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from lightkube.resources.apps_v1 import Deployment as RawDeployment
from lightkube.resources.apps_v1 import DeploymentScale
from lightkube.resources.core_v1 import Pod as RawPod
from lightkube.types import PatchType

from headrace.contracts.errors import SetupError, Unavailable
from headrace.scaler.actuators.kubernetes import names, reading
from headrace.scaler.actuators.kubernetes.objects import Deployment, Pod
from headrace.settings import KubernetesSettings

_TIMEOUT_S: Final = 10.0
_FAILURES: Final = (httpx2.HTTPError, ConfigError, NotReadyError, OSError, LookupError, ValueError)
"""Also of the program that logs us in, and of answers that are not from an API server."""
_RIGHTS: Final = "infra/kubernetes/scaler-rbac.yaml has all that the scaler needs"

T = TypeVar("T", Deployment, Pod)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of object: how it is called, and how it is read."""

    plural: str
    raw: Any
    read: Callable[[Any], T | None]


DEPLOYMENTS: Final[Kind[Deployment]] = Kind("deployments", RawDeployment, reading.deployment)
PODS: Final[Kind[Pod]] = Kind("pods", RawPod, reading.pod)


class Cluster:
    """A namespace of a cluster, and in it what is Headrace's."""

    def __init__(self, settings: KubernetesSettings) -> None:
        """Raises: SetupError: there is no cluster to be reached by these settings."""
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every request
        try:
            file = settings.kubeconfig
            found = KubeConfig.from_file(file) if file is not None else KubeConfig.from_env()
            config = found.get(settings.context)
            self._client = AsyncClient(
                config,
                namespace=settings.namespace,
                timeout=httpx2.Timeout(_TIMEOUT_S),
                field_manager="headrace",
            )
        except Exception as error:  # noqa: BLE001  # a file that is no kubeconfig fails anywhere
            name = "" if isinstance(error, ConfigError | OSError) else f"{type(error).__name__}: "
            reason = " ".join(f"{name}{error}".split())
            raise SetupError(
                f"There is no way to a Kubernetes cluster: {reason}; set HEADRACE_KUBERNETES_KUBECONFIG"
            ) from None

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.close()

    async def list(self, kind: Kind[T]) -> tuple[dict[str, T], int]:
        """All of ours by name, and how far that goes."""
        with _said("list", kind.plural):
            answer = self._client.list(kind.raw, labels=names.SELECTOR)
            found = [each async for raw in answer if (each := kind.read(raw)) is not None]
            return {each.name: each for each in found}, int(answer.resourceVersion)

    async def watch(self, kind: Kind[T], revision: int) -> AsyncGenerator[tuple[T, bool], None]:
        """What changes from there on, and whether it is gone."""
        with _said("watch", kind.plural):
            changes: Any = self._client.watch(kind.raw, labels=names.SELECTOR, resource_version=str(revision))
            async with aclosing(changes):
                async for what, raw in changes:
                    found = kind.read(raw)
                    if found is not None:
                        yield found, what == "DELETED"

    async def get(self, name: str) -> RawDeployment:
        """A Deployment as it is now."""
        with _said("get", "deployments"):
            return await self._client.get(RawDeployment, name)

    async def create(self, raw: RawDeployment) -> Deployment:
        """A new Deployment."""
        with _said("create", "deployments"):
            return _ours(await self._client.create(raw))

    async def replace(self, raw: RawDeployment) -> Deployment | None:
        """A changed Deployment; None: it was changed by another meanwhile."""
        with _said("update", "deployments"):
            try:
                return _ours(await self._client.replace(raw))
            except ApiError as error:
                _unless_changed(error)
                return None

    async def scale(self, name: str, revision: int, replicas: int) -> int | None:
        """Its revision with so many replicas; None: it was changed by another meanwhile."""
        meta = ObjectMeta(name=name, resourceVersion=str(revision))
        scale = DeploymentScale(metadata=meta, spec=ScaleSpec(replicas=replicas))
        with _said("update", "deployments/scale"):
            try:
                done = await self._client.replace(scale, name)
            except ApiError as error:
                _unless_changed(error)
                return None
        return int((done.metadata and done.metadata.resourceVersion) or 0)

    async def delete(self, raw: RawDeployment) -> None:
        """A Deployment goes, and its pods with it, unless it was changed by another since it was read."""
        assert raw.metadata is not None, "it was read before"
        unchanged = Preconditions(uid=raw.metadata.uid, resourceVersion=raw.metadata.resourceVersion)
        core: Any = self._client._client  # what is public says no conditions
        request = core.prepare_request("delete", RawDeployment, name=raw.metadata.name)
        request.data = DeleteOptions(preconditions=unchanged, propagationPolicy="Background").to_dict()
        with _said("delete", "deployments"):
            try:
                core.raise_for_status(await core.send(core.build_adapter_request(request)))
            except ApiError as error:
                _unless_changed(error)

    async def value(self, pod: str, cost: int | None) -> Pod | None:
        """Say what it costs to delete the pod; None takes the word back. Gives the pod, unless it is gone."""
        text = None if cost is None else str(cost)
        change = {"metadata": {"annotations": {names.COST: text}}}
        with _said("patch", "pods"):
            try:
                raw = await self._client.patch(RawPod, pod, change, patch_type=PatchType.MERGE)
            except ApiError as error:
                if error.status.code == 404:
                    return None
                raise
        return reading.pod(raw)

    async def kill(self, pod: str) -> None:
        """The pod ends at once."""
        with _said("delete", "pods"):
            try:
                await self._client.delete(RawPod, pod, grace_period=0)
            except ApiError as error:
                if error.status.code != 404:
                    raise


def _ours(raw: RawDeployment) -> Deployment:
    found = reading.deployment(raw)
    if found is None:
        raise Unavailable("Kubernetes gave back a Deployment that is not ours")
    return found


def _unless_changed(error: ApiError) -> None:
    if error.status.code != 409:
        raise error


@contextmanager
def _said(verb: str, what: str) -> Iterator[None]:
    """Errors as a sentence.

    Raises:
        Unavailable: it could not be done.
    """
    try:
        yield
    except httpx2.HTTPStatusError as error:
        # Those in the midst of a watch come without a response, those at its beginning without words.
        code = (error.status.code or 0) if isinstance(error, ApiError) else error.response.status_code
        message = str(error) if isinstance(error, ApiError) else f"status {code}"
        if code == 403:
            raise Unavailable(f"Kubernetes refuses to {verb} {what}: {message}; {_RIGHTS}") from None
        if code == 401:
            raise Unavailable("Kubernetes does not accept our credentials") from None
        raise Unavailable(f"Kubernetes does not {verb} {what}: {message}") from None
    except _FAILURES as error:
        reason = repr(error) if isinstance(error, LookupError) else str(error) or type(error).__name__
        raise Unavailable(f"Kubernetes cannot be reached to {verb} {what}: {reason}") from None
