"""How many requests stand before one: from the commit of its model's group."""

import asyncio
from typing import Final

from aiokafka.errors import KafkaError

from headrace.contracts.errors import SetupError, Unavailable
from headrace.core.offsets import Commit, backlog
from headrace.kafka.admin import Admin

_PATIENCE_S: Final = 2.0
_FRESH_S: Final = 0.5
_REMEMBERED: Final = 1_000


class QueuePositions:
    """Asks an admin connection, for each partition at most twice a second."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._known: dict[tuple[str, int], tuple[float, Commit | None]] = {}

    async def ahead(self, group: str, topic: str, partition: int, offset: int) -> int | None:
        """Requests before `offset` that have no fate; None when Kafka does not say within two seconds."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                commit = await self._commit(group, topic, partition)
        except (KafkaError, Unavailable, SetupError, TimeoutError):
            return None
        start = 0 if commit is None else commit.offset
        return max(0, backlog(commit, start, offset))

    async def _commit(self, group: str, topic: str, partition: int) -> Commit | None:
        now_s = asyncio.get_running_loop().time()
        known = self._known.get((topic, partition))
        if known is not None and now_s - known[0] < _FRESH_S:
            return known[1]
        commit = await self._admin.commit_of(group, topic, partition)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[topic, partition] = (now_s, commit)
        return commit
