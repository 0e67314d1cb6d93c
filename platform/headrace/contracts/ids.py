"""Request ids that describe themselves.

An id carries when it was made, for which model, in which lane and partition, and a MAC. So any gateway can
answer "queued" for a request it never saw and "unknown" for one nobody made, without a write when it was
submitted.

Layout, 25 bytes in hex (50 characters) behind `req_`:
time_ms (6) | model tag (5) | lane and partition (2) | random (5) | MAC (7, keyed BLAKE2b over the first 18
and the tenant: to anybody else it is an id that nobody made)
"""

import hmac
from hashlib import blake2b
from typing import Final, NamedTuple

from headrace.contracts.topics import LANES, Lane

PREFIX: Final = "req_"
RANDOM_BYTES: Final = 5
_MAC_BYTES: Final = 7
_CHARS: Final = 50
_MAX_PARTITION: Final = 0x3FFF
"""14 bits; the lane takes the other two."""


class RequestId(NamedTuple):
    """What an id says. `model_tag` is compared with `model_tag(slug)`; a name cannot be read back from it."""

    made_at_ms: int
    model_tag: bytes
    lane: Lane
    partition: int


def model_tag(model_slug: str) -> bytes:
    """Five bytes that stand for a model in an id."""
    return blake2b(model_slug.encode(), digest_size=5).digest()


def mint(key: bytes, what: RequestId, entropy: bytes, tenant: bytes = b"") -> str:
    """Make an id. `entropy` is `RANDOM_BYTES` random bytes, `key` at most 64 secret bytes."""
    where = LANES.index(what.lane) << 14 | min(what.partition, _MAX_PARTITION)
    payload = what.made_at_ms.to_bytes(6) + what.model_tag + where.to_bytes(2) + entropy
    mac = blake2b(payload + tenant, digest_size=_MAC_BYTES, key=key).digest()
    return PREFIX + (payload + mac).hex()


def read(key: bytes, text: str, tenant: bytes = b"") -> RequestId | None:
    """What the id says, or None when it was not made with `key` for this tenant."""
    body = text.removeprefix(PREFIX)
    if len(body) != _CHARS or not text.startswith(PREFIX) or body != body.lower():
        return None
    try:
        raw = bytes.fromhex(body)
    except ValueError:
        return None
    payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, blake2b(payload + tenant, digest_size=_MAC_BYTES, key=key).digest()):
        return None
    where = int.from_bytes(payload[11:13])
    lane_index = where >> 14
    if lane_index >= len(LANES):
        return None
    return RequestId(
        made_at_ms=int.from_bytes(payload[:6]),
        model_tag=payload[6:11],
        lane=LANES[lane_index],
        partition=where & _MAX_PARTITION,
    )


def made_at_s(text: str) -> float | None:
    """When the id says that it was made, in Unix seconds, whoever made it; None when it does not say."""
    body = text.removeprefix(PREFIX)
    if len(body) != _CHARS or not text.startswith(PREFIX):
        return None
    try:
        return int(body[:12], 16) / 1000
    except ValueError:
        return None
