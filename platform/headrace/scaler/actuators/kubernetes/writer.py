"""Changes Deployments and pods, in the name of an epoch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from lightkube.models.apps_v1 import DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment as RawDeployment

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuator import Ending
from headrace.scaler.actuators.kubernetes import names, reading
from headrace.scaler.actuators.kubernetes.cluster import Cluster
from headrace.scaler.actuators.kubernetes.follower import Follower
from headrace.scaler.actuators.kubernetes.objects import Deployment, Pod
from headrace.scaler.actuators.kubernetes.standing import Standing, is_placeholder
from headrace.scaler.actuators.kubernetes.template import Templates

_TRIES: Final = 5
"""A Deployment changes under our hands whenever its controller notes what it has done."""
_GOING: Final = -1_000_000
"""The cost of a pod that is to go; nothing else is so cheap."""


class Writer:
    """What was written is known at once to those who follow the cluster.

    Every write rests on what was known when it was decided: where that has changed, nothing is done.
    """

    def __init__(
        self, cluster: Cluster, templates: Templates, deployments: Follower[Deployment], pods: Follower[Pod]
    ) -> None:
        self._cluster = cluster
        self._templates = templates
        self._deployments = deployments
        self._pods = pods

    async def grow(self, model: str, version: str, number: int, epoch: int) -> None:
        """So many more pods; the first ones make the Deployment."""
        name = names.deployment(model, version)
        known = self._deployments.found.get(name)
        if known is None:
            known = await self._cluster.create(self._new(model, version, epoch))
            self._deployments.put(known)
        await self._change(known, number, epoch)

    async def shrink(self, standing: Standing, endings: Sequence[Ending], epoch: int) -> None:
        """Without these. Kubernetes learns first who they are, and then that there are to be fewer."""
        asked = {each.unit_id for each in endings}
        victims = {pod.name for pod in standing.staying} & asked
        await self._fresh(standing.deployment, epoch)
        for pod in standing.staying:
            is_victim = pod.name in victims
            if is_victim != (pod.cost == _GOING):
                await self._value(pod, _GOING if is_victim else None)
        missing = min(standing.missing, sum(map(is_placeholder, asked)))
        await self._change(standing.deployment, -len(victims) - missing, epoch)

    async def renew(self, known: Deployment, epoch: int) -> None:
        """Make its pods from the operator's template as it is now."""
        await self._change(known, 0, epoch)

    async def delete(self, known: Deployment, epoch: int) -> None:
        """Remove a Deployment without pods, unless another has given it some since, even a moment ago.

        Whatever else has changed it: the next decision looks again.
        """
        await self._cluster.delete(await self._fresh(known, epoch))

    def is_old(self, known: Deployment) -> bool:
        """Whether its pods are made from a template that has changed since."""
        return self._templates.of(known.model, known.version)[1] != known.template

    async def _value(self, pod: Pod, cost: int | None) -> None:
        changed = await self._cluster.value(pod.name, cost)
        if changed is not None and pod.name in self._pods.found:
            self._pods.put(changed)

    async def _change(self, known: Deployment, by: int, epoch: int) -> None:
        """The scale by so many, and whatever is old about the Deployment."""
        for _ in range(_TRIES):
            raw = await self._fresh(known, epoch)
            now = reading.deployment(raw)
            assert now is not None, "it was read before"
            if now.epoch < epoch or self.is_old(now):
                self._bring_up(raw, now, epoch)
                now = await self._cluster.replace(raw)
                if now is None:
                    continue
                self._deployments.put(now)
            if by == 0:
                return
            revision = await self._cluster.scale(now.name, now.revision, now.replicas + by)
            if revision is not None:
                self._deployments.put(replace(now, revision=revision, replicas=now.replicas + by))
                return
        raise Unavailable(f"Deployment {known.name} is changed by others time and again")

    async def _fresh(self, known: Deployment, epoch: int) -> RawDeployment:
        """The Deployment as it is.

        Raises:
            Unavailable: a newer epoch has it, or it is not what was known when this was decided.
        """
        raw = await self._cluster.get(known.name)
        now = reading.deployment(raw)
        if now is None or (now.model, now.version) != (known.model, known.version):
            raise Unavailable(f"Deployment {known.name} is not ours")
        if now.epoch > epoch:
            raise Unavailable(
                f"Deployment {known.name} obeys a newer scaler: {names.EPOCH} is {now.epoch}, ours {epoch}"
            )
        if now.replicas != known.replicas:
            raise Unavailable(f"Deployment {known.name} has another scale than a moment ago")
        return raw

    def _bring_up(self, raw: RawDeployment, now: Deployment, epoch: int) -> None:
        template, digest = self._templates.of(now.model, now.version)
        assert raw.metadata is not None, "it was read before"
        assert raw.spec is not None, "it was read before"
        own = {names.EPOCH: str(epoch), names.TEMPLATE: digest}
        raw.metadata.annotations = {**(raw.metadata.annotations or {}), **own}
        if digest != now.template:
            raw.spec.template = template

    def _new(self, model: str, version: str, epoch: int) -> RawDeployment:
        name = names.deployment(model, version)
        template, digest = self._templates.of(model, version)
        own = {names.MODEL: model, names.VERSION: version, names.EPOCH: str(epoch), names.TEMPLATE: digest}
        # A new template takes no more GPUs than the old: a pod goes before another comes.
        rolling = RollingUpdateDeployment(maxSurge=0, maxUnavailable="25%")
        return RawDeployment(
            metadata=ObjectMeta(name=name, labels=names.labels(model, name), annotations=own),
            spec=DeploymentSpec(
                replicas=0,
                revisionHistoryLimit=1,
                selector=LabelSelector(matchLabels={names.DEPLOYMENT: name}),
                strategy=DeploymentStrategy(rollingUpdate=rolling, type="RollingUpdate"),
                template=template,
            ),
        )
