"""Models that are to go: they are removed with their topics, or come back if they are deployed meanwhile."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.contracts.errors import HeadraceError, SetupError
from headrace.contracts.events import ModelDeployed
from headrace.contracts.topics import TopicPlan, Topics
from headrace.core.deployments import latest
from headrace.core.ports import Outgoing, Publisher, Record
from headrace.scaler.fleet import LEARNED, TRUSTED, Fleet

_log = logging.getLogger(__name__)


class TopicAdmin(Protocol):
    """Makes topics, and deletes them."""

    async def renew_topics(self, plans: Sequence[TopicPlan]) -> int:
        """Create those that are missing; how many partitions the first one has."""
        ...

    async def commit_initial_offsets(self, group: str, plans: Sequence[TopicPlan]) -> None:
        """So that the first request is never missed."""
        ...

    async def delete_topics(self, names: Sequence[str]) -> None:
        """Delete them; some may be gone already."""
        ...


@dataclass(frozen=True, slots=True)
class Removals:
    """Removes and brings back, one after the other. Only the scaler that acts asks it to.

    Kafka has no compare-and-set, so while a model is retiring only we touch its topics. A deployment that
    comes then is written as `returning`, and counts once we have taken that off. Where it comes in `models`:

    - before we look for the last time: nothing is removed;
    - between that and our tombstone: a tombstone ends only what was leaving (see `Fleet`), so it comes back;
    - after the tombstone: it comes back.

    A deployment that was begun before the undeployment was written, and ended after it, finds that when it
    reads what came before it, and is written once more, as returning. Gateways take no request before it is
    back, so none is in the topics that are deleted. If we die on the way, the next scaler reads the same
    records in the same order. If we are only stopped for so long that another follows us, between our look
    and the deletion, we may run over what it has brought back: that comes back too, but without its requests.

    models: reads all of the topic.
    """

    topics: Topics
    admin: TopicAdmin
    publisher: Publisher
    models: Callable[[], AsyncIterator[Record]]

    async def tick(
        self, fleet: Fleet, served: Collection[str], confirm: Callable[[], Awaitable[bool]], now_s: float
    ) -> list[str]:
        """Names of those that are gone now. served: models with workers. confirm: whether we still act."""
        gone = []
        for known in list(fleet.known.values()):
            deployed = known.deployed
            is_done = deployed.name not in served and known.is_done(now_s)
            if not deployed.returning and not is_done:
                continue
            if not await confirm():
                break
            if fleet.known.get(deployed.name) is not known or known.deployed is not deployed:
                continue  # it was deployed again meanwhile
            try:
                if deployed.returning:
                    fleet.deploy(await self._bring_back(deployed))
                elif await self._remove(deployed):
                    gone.append(deployed.name)
            except (HeadraceError, SetupError) as error:
                # Other models must not wait for it.
                what = "back" if deployed.returning else "removed"
                _log.warning("%s is not %s yet: %s", deployed.name, what, error)
        return gone

    async def _remove(self, deployed: ModelDeployed) -> bool:
        """Unless something else is deployed by now. Topics first: who follows us does the rest."""
        if latest([record async for record in self.models()], deployed.name) != deployed:
            return False
        _log.info("%s is removed: nothing is left to do, and nobody works", deployed.name)
        plans = self.topics.request_plans(deployed.slug, deployed.partitions)
        await self.admin.delete_topics([plan.name for plan in plans])
        for topic, key in (
            (self.topics.scaler, f"{LEARNED}{deployed.name}"),
            (self.topics.scaler, f"{TRUSTED}{deployed.name}"),
            (self.topics.models, deployed.name),
        ):
            await (await self.publisher.send(Outgoing(topic, None, key.encode())))
        return True

    async def _bring_back(self, deployed: ModelDeployed) -> ModelDeployed:
        _log.info("%s is back: it was deployed while it was being removed", deployed.name)
        plans = self.topics.request_plans(deployed.slug, deployed.partitions)
        partitions = await self.admin.renew_topics(plans)
        await self.admin.commit_initial_offsets(self.topics.group(deployed.slug), plans)
        changes = {"retiring": False, "returning": False, "partitions": partitions}
        back = deployed.model_copy(update=changes)
        key = deployed.name.encode()
        await (await self.publisher.send(Outgoing(self.topics.models, back.encode(), key)))
        return back
