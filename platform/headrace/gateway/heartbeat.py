"""A gateway's sign of life: says which reply partition is taken, and proves that Kafka takes what we send."""

import asyncio
import logging
import os
import socket
import time
from contextlib import suppress
from typing import Final

from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import GatewayHeartbeat
from headrace.core.ports import Outgoing, Publisher

_log = logging.getLogger(__name__)

INTERVAL_S: Final = 2.0
FRESH_S: Final = 10.0
"""A heartbeat older than five beats is no sign of life."""


class Heartbeat:
    """Beats on topic `workers` until cancelled."""

    def __init__(self, publisher: Publisher, topic: str, gateway_id: str, reply_partition: int) -> None:
        self._publisher = publisher
        self._topic = topic
        self._id = gateway_id
        self._reply_partition = reply_partition
        self._confirmed_s = time.monotonic()

    def is_fresh(self) -> bool:
        """Whether Kafka has confirmed a beat lately."""
        return time.monotonic() - self._confirmed_s < FRESH_S

    async def regularly(self) -> None:
        """Beat for ever."""
        while True:
            event = GatewayHeartbeat(
                id=self._id,
                pid=os.getpid(),
                host=socket.gethostname(),
                reply_partition=self._reply_partition,
                sent_at_s=time.time(),
            )
            if await self._tell(event.encode()):
                self._confirmed_s = time.monotonic()
            await asyncio.sleep(INTERVAL_S)

    async def end(self) -> None:
        """Say that this gateway is gone, if Kafka takes it soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL_S):
                await self._tell(None)

    async def _tell(self, value: bytes | None) -> bool:
        try:
            await (await self._publisher.send(Outgoing(self._topic, value, self._id.encode())))
        except HeadraceError as error:
            _log.warning("heartbeat not sent: %s", error)
            return False
        return True
