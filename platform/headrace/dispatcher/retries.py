"""The retry service: a request whose time has come goes back to its lane.

At its due time it may also have been cancelled, or be past its deadline: then it is answered here. Each
record is on its lane, answered or set aside before it is committed; after a crash some go back twice.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from headrace.contracts import headers as h
from headrace.contracts import ids, requests
from headrace.contracts.errors import (
    BodyTooLarge,
    HeadraceError,
    InvalidRequest,
    RequestCancelled,
    RequestExpired,
    UnknownModel,
)
from headrace.contracts.requests import RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import Topics, unslug
from headrace.core import retries
from headrace.core.answers import failure
from headrace.core.cancels import Cancels
from headrace.core.identity import Trust, believed
from headrace.core.letters import full
from headrace.core.ports import Outgoing, Record
from headrace.dispatcher.answering import Answering
from headrace.dispatcher.archiver import Source
from headrace.dispatcher.stopping import unless_stopped

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_BATCH: Final = 200


def due_s(record: Record) -> float:
    """When a record is due; at once when it does not say, so that it is set aside."""
    try:
        return retries.due_at_s(record)
    except InvalidRequest:
        return 0.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service works with. `source` hands out only what is due."""

    source: Source
    answering: Answering
    cancels: Cancels
    topics: Topics
    trust: Trust


class Retries:
    """The acting shell round `core.retries`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self, stop: asyncio.Event) -> None:
        """Put back what is due until `stop` is set."""
        source = self._parts.source
        while not stop.is_set():
            records = await source.poll(_POLL_S, _BATCH)
            if records and not await unless_stopped(self._settle_all(records), stop):
                return
            if records and not await source.commit():
                _log.warning("the group has moved on; up to %d retries come again", len(records))

    async def _settle_all(self, records: Sequence[Record]) -> None:
        await asyncio.gather(*(self._settle(record) for record in records))

    async def _settle(self, record: Record) -> None:
        parts = self._parts
        try:
            waiting = _read(parts.topics, parts.trust, record)
        except InvalidRequest as error:
            await self._give_up(record, _salvaged(parts.topics, record), error)
            return
        head, expires_at_s = waiting.head, waiting.head.expires_at_s
        if parts.cancels.has(head.id, head.batch_id, trusted=waiting.trusted):
            await self._end(waiting, RequestCancelled("The request was cancelled"), State.CANCELLED)
        elif expires_at_s is not None and expires_at_s <= time.time():
            late = RequestExpired("The request's deadline passed while it waited for another attempt")
            await self._end(waiting, late, State.EXPIRED)
        elif not await parts.answering.partitions(waiting.back.topic):
            await self._give_up(record, waiting, UnknownModel(f"Topic {waiting.back.topic} is gone"))
        else:
            try:
                await parts.answering.publish(waiting.back)
            except (BodyTooLarge, UnknownModel) as error:
                await self._give_up(record, waiting, error)

    async def _give_up(self, record: Record, waiting: "_Waiting | _Salvaged", error: HeadraceError) -> None:
        await self._parts.answering.set_aside(record, error, waiting.head.id.encode())
        await self._end(waiting, error, State.FAILED)

    async def _end(self, waiting: "_Waiting | _Salvaged", error: HeadraceError, state: State) -> None:
        outcome = failure(error, state)
        await self._parts.answering.answer(waiting.head, waiting.model, outcome, trusted=waiting.trusted)


class _Waiting(NamedTuple):
    """A request that waits: what it says, and the record that it becomes. `model`: empty when unknown."""

    head: RequestHead
    back: Outgoing
    model: str
    trusted: bool


def _read(topics: Topics, trust: Trust, record: Record) -> _Waiting:
    retries.due_at_s(record)
    back = retries.back_to_lane(topics, record)
    slug, _ = topics.parse_requests(back.topic) or ("", None)
    trusted = trust.judge(record.headers, slug)
    head = requests.read(record.headers, default_id=full(record.place))
    return _Waiting(believed(head, trusted=trusted), back, unslug(slug), trusted)


class _Salvaged(NamedTuple):
    """A request that nobody can read, with what is needed to say so."""

    head: RequestHead
    model: str
    trusted: bool


def _salvaged(topics: Topics, record: Record) -> _Salvaged:
    said = record.headers.get(h.ID, b"").decode(errors="replace")
    # Nobody may end a gateway's request by a record that cannot be read.
    is_theirs = said and not said.startswith(ids.PREFIX)
    head = requests.salvaged(record.headers, default_id=said if is_theirs else full(record.place))
    slug, _ = topics.parse_requests(record.headers.get(h.ORIGIN_TOPIC, b"").decode(errors="replace")) or (
        "",
        0,
    )
    return _Salvaged(head, unslug(slug), trusted=False)
