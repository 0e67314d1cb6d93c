"""One lane of a model, as a gateway writes to it: what all its requests share is made once."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final, NamedTuple

from headrace.contracts import headers as h
from headrace.contracts import ids, requests
from headrace.contracts.events import ModelDeployed
from headrace.contracts.identity import Claims, sign
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.topics import Lane, Topics
from headrace.core.ports import Outgoing


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this gateway is. `key` signs request ids and requests."""

    source: str
    key: bytes
    reply: ReplyAddress
    topics: Topics


class Named(NamedTuple):
    """What sets one request of a channel apart from the others."""

    id: bytes
    expires_at_s: float
    tenant: bytes | None
    accept: bytes | None = None
    trace: Sequence[h.Header] = ()
    webhook: bytes | None = None


class Way(NamedTuple):
    """What becomes of an answer. waits: it comes to this gateway. kept: it goes to `results`."""

    waits: bool = True
    kept: bool = False


WAITED_FOR: Final = Way()
JOB: Final = Way(waits=False, kept=True)
BOTH: Final = Way(waits=True, kept=True)


class Channel:
    """Makes the records of one model, lane and path whose answers go one way."""

    def __init__(self, identity: Identity, deployed: ModelDeployed, lane: Lane, path: str, way: Way) -> None:
        self.deployed = deployed
        self.lane = lane
        self.way = way
        self.model_tag = ids.model_tag(deployed.slug)
        self._key = identity.key
        self._slug = deployed.slug.encode()
        self.topic = identity.topics.requests(deployed.slug, lane)
        self._partitions = _round(deployed.partitions)
        reply = identity.reply if way.waits else None
        durable = way.waits and way.kept
        head = RequestHead(id="", source=identity.source, path=path, reply=reply, durable=durable)
        self._headers = [header for header in requests.write(head) if header[0] != h.ID]

    def next_partition(self) -> int:
        """Partitions in turn: even within one gateway, and started anywhere, so even among several."""
        return next(self._partitions)

    def record(self, named: Named, value: bytes, partition: int) -> Outgoing:
        """The record of one request."""
        expiry = requests.expiry(named.expires_at_s)
        signature = sign(self._key, Claims(named.tenant or b"", named.id, self._slug, expiry[1]))
        headers = [(h.ID, named.id), expiry, (h.SIGNATURE, signature), *self._headers]
        if named.tenant is not None:
            headers.append((h.TENANT_ID, named.tenant))
        if named.accept is not None:
            headers.append((h.ACCEPT, named.accept))
        if named.webhook is not None:
            headers.append((h.WEBHOOK, named.webhook))
        headers += named.trace
        return Outgoing(self.topic, value, None, headers, partition)


def _round(partitions: int) -> Iterator[int]:
    start = random.randrange(partitions)  # noqa: S311  # spreading, not secrecy
    return cycle([*range(start, partitions), *range(start)])
