"""The deliverer: webhooks that are due, until they are delivered or given up.

A delivery is taken for a while and noted when it was tried. A dispatcher that dies in between leaves it due
again: a receiver may hear of an event twice, under one id, and never not at all.
"""

import asyncio
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol
from urllib.parse import urlsplit

from headrace.contracts.errors import HeadraceError, Unavailable
from headrace.core.webhooks import (
    SECRET_BYTES,
    Attempt,
    Delivery,
    DeliveryState,
    Endpoint,
    Next,
    follow,
    new_secret,
    signed,
)
from headrace.settings import WebhookSettings

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_LEASE_S: Final = 5.0
"""Beside the time that an attempt may take: for the note in SQL."""
_BUSY_S: Final = 2.0


class Store(Protocol):
    """Where deliveries are kept; see `store.webhooks.Webhooks`."""

    async def take_due(self, now_s: float, until_s: float, limit: int) -> list[Delivery]: ...  # noqa: D102

    async def put_back(self, delivery: Delivery, at_s: float) -> None: ...  # noqa: D102

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None: ...  # noqa: D102

    async def secret_of_urls(self, tenant: str, fresh: str, now_s: float) -> Endpoint: ...  # noqa: D102

    async def note(self, delivery: Delivery, attempt: Attempt, then: Next, now_s: float) -> None: ...  # noqa: D102


class Sends(Protocol):
    """Sends a body; see `hooks.sender.Sender`."""

    async def send(self, number: int, url: str, headers: dict[str, str], body: bytes) -> Attempt:
        """The attempt, whatever came of it."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the deliverer works with. `store` opens the database when it is asked for."""

    store: Callable[[], Store]
    sender: Sends
    settings: WebhookSettings


class Deliverer:
    """The acting shell round `core.webhooks`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; what is on its way then has its time."""
        while not stop.is_set():
            began = 0
            try:
                began = await self._begin()
            except Unavailable as error:
                _log.warning("webhooks wait: %s", error)
            if not began:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await stop.wait()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._parts.settings.timeout_s)

    async def _begin(self) -> int:
        """Begin what is due and has room; returns how many."""
        settings = self._parts.settings
        room = settings.at_once - len(self._tasks)
        if room <= 0:
            return 0
        now_s = time.time()
        due = await self._parts.store().take_due(now_s, now_s + settings.timeout_s + _LEASE_S, room)
        began = [delivery for delivery in due if await self._has_room(delivery, now_s)]
        for delivery in began:
            host = urlsplit(delivery.url).netloc
            self._hosts[host] += 1
            task = asyncio.create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(partial(self._left, host))
        return len(began)

    async def _has_room(self, delivery: Delivery, now_s: float) -> bool:
        """One host that is slow must not take every place."""
        if self._hosts[urlsplit(delivery.url).netloc] < self._parts.settings.at_once // 4:
            return True
        await self._parts.store().put_back(delivery, now_s + _BUSY_S)
        return False

    def _left(self, host: str, task: asyncio.Task[None]) -> None:
        del task
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            keys = await self._secrets(delivery)
            headers = signed(delivery, keys, time.time())
            attempt = await self._parts.sender.send(
                delivery.attempts + 1, delivery.url, headers, delivery.body
            )
            then = follow(attempt, random.random())  # noqa: S311  # spreading, not secrecy
            await self._parts.store().note(delivery, attempt, then, time.time())
        except HeadraceError as error:
            _log.warning("webhook %s stays due: %s", delivery.id, error)
        except Exception:  # noqa: BLE001  # one delivery must not end the others
            _log.exception("webhook %s stays due", delivery.id)
        else:
            if then.state is DeliveryState.FAILED:
                _log.warning("webhook %s to %s failed for good", delivery.id, urlsplit(delivery.url).netloc)

    async def _secrets(self, delivery: Delivery) -> Sequence[str]:
        """What signs it. Of an endpoint that was removed meanwhile nobody can check a signature any more."""
        store, now_s = self._parts.store(), time.time()
        endpoint = None
        if delivery.endpoint_id is not None:
            endpoint = await store.get(delivery.tenant, delivery.endpoint_id)
        if endpoint is None:
            fresh = new_secret(secrets.token_bytes(SECRET_BYTES))
            endpoint = await store.secret_of_urls(delivery.tenant, fresh, now_s)
        return endpoint.secrets(now_s)
