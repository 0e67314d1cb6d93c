"""What is told when a worker has died: others get its partitions at once, and what it held is free."""

import logging
import time
from collections.abc import Sequence
from typing import Protocol

from headrace.contracts.events import Obituary, WorkerHeartbeat, WorkerState
from headrace.contracts.topics import Topics, slug
from headrace.core.blame import Blame, blame, said
from headrace.core.ports import Outgoing, Publisher
from headrace.scaler.actuator import Cause, Exit

_log = logging.getLogger(__name__)


class Groups(Protocol):
    """Consumer groups."""

    async def leave_group(self, group: str, member_id: str) -> bool:
        """Take a dead member out of its group."""
        ...


class Obituaries:
    """Tells of dead workers. Failing is no harm: Kafka's session timeout is the net beneath."""

    def __init__(self, topics: Topics, groups: Groups, publisher: Publisher) -> None:
        self._topics = topics
        self._groups = groups
        self._publisher = publisher

    async def tell(self, ended: Exit, heartbeats: Sequence[WorkerHeartbeat]) -> None:
        """For each worker of the unit that is no more; `heartbeats`: their last."""
        for heartbeat in heartbeats:
            try:
                await self._tell(ended, heartbeat)
            except Exception as error:  # noqa: BLE001  # the session timeout is the net beneath
                _log.warning("obituary of %s not sent: %r", heartbeat.id, error)

    async def _tell(self, ended: Exit, heartbeat: WorkerHeartbeat) -> None:
        if heartbeat.group:
            # Before its partitions move: their next owner must know that what it held is free.
            await self._say_dead(ended, heartbeat.id, heartbeat.group)
            if heartbeat.member_id:
                await self._groups.leave_group(heartbeat.group, heartbeat.member_id)
        if heartbeat.state is not WorkerState.FAILED:
            await self.take_off(heartbeat.id)

    async def _say_dead(self, ended: Exit, worker_id: str, group: str) -> None:
        topics = self._topics
        blamed: tuple[Blame, ...] = ()
        if ended.cause is Cause.CRASHED:
            blamed = blame(topics, slug(ended.unit.model), worker_id, ended.in_flight)
        event = Obituary(worker=worker_id, group=group, blamed=said(blamed), sent_at_s=time.time())
        key = f"obituary/{worker_id}".encode()
        await (await self._publisher.send(Outgoing(topics.control, event.encode(), key)))

    async def take_off(self, worker_id: str) -> None:
        """Remove a name from `workers`."""
        await (await self._publisher.send(Outgoing(self._topics.workers, None, worker_id.encode())))
