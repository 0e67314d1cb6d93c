"""Starts and stops workers as pods, by the scale of Deployments."""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator, Mapping
from typing import Final

from headrace.contracts.errors import HeadraceError, SetupError, Unavailable
from headrace.scaler.actuator import Ending, Exit, Orders, Unit
from headrace.scaler.actuators.kubernetes.cluster import DEPLOYMENTS, PODS, Cluster
from headrace.scaler.actuators.kubernetes.deaths import Deaths
from headrace.scaler.actuators.kubernetes.follower import Follower
from headrace.scaler.actuators.kubernetes.objects import Deployment, Pod
from headrace.scaler.actuators.kubernetes.standing import (
    Standing,
    deployment_of,
    is_placeholder,
    standings,
    units,
    unneeded,
)
from headrace.scaler.actuators.kubernetes.template import Templates
from headrace.scaler.actuators.kubernetes.writer import Writer
from headrace.settings import Settings

_log = logging.getLogger(__name__)

_KEPT_S: Final = 30.0
"""Whoever acted may have died before it told of ends; the next one acts sooner than that."""


def create(settings: Settings) -> "Kubernetes":
    """For `catalog`.

    Raises:
        SetupError: a pod template is wrong, or there is no way to a cluster.
    """
    return Kubernetes(settings)


class Kubernetes:
    """One Deployment for each version of a model; a unit is a pod, or a replica that has none yet.

    Whoever acts puts its epoch on a Deployment before it changes the scale; a lower epoch than is there is
    refused.
    """

    names_units = False

    def __init__(self, settings: Settings) -> None:
        """Raises: SetupError: a pod template is wrong, or there is no way to a cluster."""
        self._cluster = Cluster(settings.kubernetes)
        self._deployments = Follower(self._cluster, DEPLOYMENTS, self._deployment_changed)
        self._pods = Follower(self._cluster, PODS, self._pod_changed)
        self._writer = Writer(self._cluster, Templates(settings), self._deployments, self._pods)
        self._deaths = Deaths()
        self._exits: list[Exit] = []
        self._acts = False
        self._doomed: set[str] = set()
        self._units: list[Unit] = []
        self._will_look = False
        self.changed = asyncio.Event()

    async def start(self) -> None:
        """List what is there, and follow it."""
        try:
            await self._deployments.start()
            await self._pods.start()
        except Unavailable as error:
            await self.stop()
            raise SetupError(str(error)) from None

    async def stop(self) -> None:
        """Pods go on."""
        self._deployments.halt()
        self._pods.halt()
        await self._cluster.close()
        await self._deployments.stop()
        await self._pods.stop()

    async def lead(self, epoch: int) -> None:
        """A Deployment learns it when it is changed."""

    async def stand_back(self) -> None:
        """Pods go on. Whoever acts tells of their ends."""
        self._acts = False

    def units(self) -> Mapping[str, Unit]:
        """Pods, and replicas without one."""
        self._deployments.check()
        self._pods.check()
        self._look()
        return {unit.id: unit for unit in self._units}

    def exits(self) -> list[Exit]:
        """Workers that ended since the last call. While others act, their last ones are kept."""
        if not self._acts:
            since_s = time.time() - _KEPT_S
            self._exits = [each for each in self._exits if each.at_s >= since_s]
            return []
        found, self._exits = self._exits, []
        return found

    async def act(self, orders: Orders) -> None:
        """Change scales. A Deployment that cannot be changed holds up no other."""
        self._acts = True
        failures: list[HeadraceError] = []
        for change in self._changes(orders):
            try:
                await change
            except HeadraceError as error:
                failures.append(error)
        if failures:
            # Whether it was done nobody knows; nothing is decided until all is listed again.
            self._deployments.doubt()
            self._pods.doubt()
            for other in failures[1:]:
                _log.warning("%s", other)
            raise failures[0]

    def _changes(self, orders: Orders) -> Iterator[Awaitable[None]]:
        """What is to be done, each by what is known when its turn comes."""
        epoch, found = orders.epoch, self._deployments.found
        starts = Counter((new.model, new.version) for new in orders.starts)
        yield from self._ends(orders, starts)
        for (model, version), number in (+starts).items():
            yield self._writer.grow(model, version, number, epoch)
        for name in self._due():
            yield self._kill(name)
        for each in list(found.values()):
            if each.replicas and self._writer.is_old(each):
                yield self._writer.renew(each, epoch)
        for name in unneeded(self._standings().values(), orders.targets):
            if name in found:  # it may have gone while another one went
                yield self._writer.delete(found[name], epoch)

    def _ends(self, orders: Orders, starts: Counter[tuple[str, str]]) -> Iterator[Awaitable[None]]:
        """Who goes. `starts` loses those that will follow by themselves."""
        there = self._standings()
        ends: defaultdict[str | None, list[Ending]] = defaultdict(list)
        # Where Kubernetes took another, who hung may have come to itself.
        self._doomed -= {pod.name for each in there.values() for pod in each.staying}
        for ending in orders.ends:
            ends[deployment_of(ending.unit_id, self._pods.found)].append(ending)
            if ending.force:
                self._doomed.add(ending.unit_id)
        for name, standing in there.items():
            build = (standing.deployment.model, standing.deployment.version)
            hung = [pod.name for pod in standing.staying if pod.name in self._doomed][: starts[build]]
            starts[build] -= len(hung)
            for pod_name in hung:
                yield self._swap(standing.deployment, pod_name, orders.epoch)
            others = [each for each in ends[name] if each.unit_id not in hung]
            if others:
                yield self._writer.shrink(standing, others, orders.epoch)

    def _due(self) -> list[str]:
        """Whoever hangs is killed when Kubernetes has begun to end it: before that, another would follow."""
        pods = self._pods.found
        self._doomed &= pods.keys()
        return [name for name in self._doomed if pods[name].is_leaving]

    async def _swap(self, known: Deployment, name: str, epoch: int) -> None:
        """Another in place of a pod that hangs. Controllers may miss a scale that is lower for a moment."""
        await self._writer.renew(known, epoch)
        await self._kill(name)

    async def _kill(self, name: str) -> None:
        self._deaths.killed.add(name)
        await self._cluster.kill(name)
        self._doomed.discard(name)

    def _standings(self) -> dict[str, Standing]:
        return standings(self._deployments.found, self._pods.found)

    def _deployment_changed(self, before: Deployment | None, after: Deployment | None) -> None:
        self._look_soon()

    def _pod_changed(self, before: Pod | None, after: Pod | None) -> None:
        now_s = time.time()
        ended = None
        if after is not None:
            ended = self._deaths.see(after, now_s)
        elif before is not None:
            ended = self._deaths.gone(before, now_s)
        if ended is not None:
            self._exits.append(ended)
            self.changed.set()
        self._look_soon()

    def _look_soon(self) -> None:
        """Once for all that is told at once: a list may tell of thousands."""
        if not self._will_look:
            self._will_look = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Whoever waits learns of new units, changed ones and those that are gone."""
        self._will_look = False
        since_s = {unit.id: unit.started_at_s for unit in self._units if is_placeholder(unit.id)}
        found = units(self._deployments.found, self._pods.found, since_s, time.time())
        if found != self._units:
            self._units = found
            self.changed.set()
