"""May this tenant ask for one more? Token buckets and a count, as values. Pure.

A bucket holds up to its capacity and fills at a rate. A full bucket says no more than none, so whoever keeps
buckets may forget those that nobody has used for long.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, Self

from headrace.contracts.errors import Overloaded, QueueFull

MAX_RETRY_AFTER_S: Final = 60
_SLOT_RETRY_S: Final = 1
"""Nobody knows when a request ends; asking again after a second costs little."""
_BYTES_PER_TOKEN: Final = 4
"""Of English text, about; what an answer says in the end is counted."""
_MINUTE_S: Final = 60.0


class OverLimit(Overloaded):
    """Somebody asked for more than it may. `retry_after_s`: whole seconds, from 1 to 60."""

    def __init__(self, message: str, retry_after_s: int, standing: "Standing | None" = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.standing = standing


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant, or a key with limits of its own, may do at one gateway; None: no limit.

    burst: requests at once after a pause; None: those of one second, and at least one.
    tokens_per_min: of prompts and answers; as many at once after a pause.
    …_per_day: at all gateways together, in a day of UTC.
    """

    max_waiting: int | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    tokens_per_min: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None

    @property
    def is_any(self) -> bool:
        """Whether there is anything to decide."""
        return self.is_paced or self.is_daily

    @property
    def is_paced(self) -> bool:
        """Whether there is anything to decide by what happens at one gateway."""
        return (self.max_waiting, self.rate_per_s, self.tokens_per_min) != (None, None, None)

    @property
    def is_daily(self) -> bool:
        """Whether there is a quota."""
        return (self.requests_per_day, self.tokens_per_day) != (None, None)

    @property
    def requests(self) -> "Rate | None":
        """The bucket of requests."""
        if self.rate_per_s is None:
            return None
        capacity = float(self.burst) if self.burst is not None else max(1.0, self.rate_per_s)
        return Rate(capacity, self.rate_per_s)

    @property
    def tokens(self) -> "Rate | None":
        """The bucket of tokens."""
        if self.tokens_per_min is None:
            return None
        return Rate(float(self.tokens_per_min), self.tokens_per_min / _MINUTE_S)

    def given(self) -> dict[str, int | float]:
        """Those that are set, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """What `given` gave; names of a later release are passed by."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


class Rate(NamedTuple):
    """How large a bucket is, and how fast it fills."""

    capacity: float
    per_s: float


class Bucket(NamedTuple):
    """What is left at a moment. Below zero: an answer was longer than what was left."""

    left: float
    at_s: float


class Buckets(NamedTuple):
    """Of one tenant; None is a full one."""

    requests: Bucket | None = None
    tokens: Bucket | None = None


FULL: Final = Buckets()


class Level(NamedTuple):
    """One bucket as callers are told of it. reset_s: until it is full again."""

    limit: int
    remaining: int
    reset_s: float


class Standing(NamedTuple):
    """What a tenant has left; None where nothing limits it."""

    requests: Level | None = None
    tokens: Level | None = None


class Allowed(NamedTuple):
    """It may. `buckets` is what is left."""

    buckets: Buckets
    standing: Standing


class Refused(NamedTuple):
    """It may not, and nothing changes."""

    reason: str
    retry_after_s: int
    standing: Standing


def estimate(size_bytes: int) -> int:
    """Tokens that a body of this size is taken for until its answer says."""
    return max(1, size_bytes // _BYTES_PER_TOKEN)


def decide(
    limits: TenantLimits, buckets: Buckets, waiting: int, now_s: float, estimated_tokens: int = 0
) -> Allowed | Refused:
    """Whether a tenant with so many requests waiting may send one more.

    A request of more tokens than a full bucket holds is let in by a full one: else it never could be.
    """
    standing = stand(limits, buckets, now_s)
    if limits.max_waiting is not None and waiting >= limits.max_waiting:
        reason = f"{waiting} of its requests wait at this gateway, as many as may"
        return Refused(reason, _SLOT_RETRY_S, standing)
    requests, tokens = limits.requests, limits.tokens
    if requests is not None:
        lacking = 1.0 - _left(requests, buckets.requests, now_s)
        if lacking > 0:
            reason = f"it may send {requests.per_s:g} requests a second to this gateway"
            return Refused(reason, retry_after_s(lacking / requests.per_s), standing)
    if tokens is not None:
        lacking = min(float(estimated_tokens), tokens.capacity) - _left(tokens, buckets.tokens, now_s)
        if lacking > 0:
            reason = f"it may use {limits.tokens_per_min} tokens a minute at this gateway"
            return Refused(reason, retry_after_s(lacking / tokens.per_s), standing)
    after = Buckets(
        _take(requests, buckets.requests, 1.0, now_s), _take(tokens, buckets.tokens, estimated_tokens, now_s)
    )
    return Allowed(after, stand(limits, after, now_s))


def correct(limits: TenantLimits, buckets: Buckets, more_tokens: int, now_s: float) -> Buckets:
    """The buckets after an answer that took so many tokens more than estimated; fewer: below zero."""
    return buckets._replace(tokens=_take(limits.tokens, buckets.tokens, more_tokens, now_s))


def stand(limits: TenantLimits, buckets: Buckets, now_s: float) -> Standing:
    """What callers are told."""
    return Standing(
        _level(limits.requests, buckets.requests, now_s), _level(limits.tokens, buckets.tokens, now_s)
    )


def retry_after_s(seconds: float) -> int:
    """Whole seconds that clients heed: OpenAI's ignore, or give up at, more than a minute or two."""
    return min(max(math.ceil(seconds), 1), MAX_RETRY_AFTER_S)


def check_queue(model: str, queued: int, limit: int, rate_per_s: float) -> None:
    """Refuse a request for a model whose lanes are full. `rate_per_s`: how fast it has been lately.

    Raises:
        QueueFull: `queued` wait, as many as may.
    """
    if queued < limit:
        return
    after_s = retry_after_s((queued - limit + 1) / rate_per_s) if rate_per_s > 0 else _SLOT_RETRY_S
    raise QueueFull(
        f"{queued} requests wait for model '{model}', as many as may; nothing was queued. "
        f"Try again in {after_s} s",
        after_s,
    )


def _level(rate: Rate | None, bucket: Bucket | None, now_s: float) -> Level | None:
    if rate is None:
        return None
    left = _left(rate, bucket, now_s)
    reset_s = math.ceil((rate.capacity - left) / rate.per_s * 1000) / 1000
    return Level(math.floor(rate.capacity), max(0, math.floor(left)), reset_s)


def _take(rate: Rate | None, bucket: Bucket | None, number: float, now_s: float) -> Bucket | None:
    if rate is None:
        return None
    return Bucket(min(rate.capacity, _left(rate, bucket, now_s) - number), now_s)


def _left(rate: Rate, bucket: Bucket | None, now_s: float) -> float:
    """What is in it now. A clock that went back adds nothing."""
    if bucket is None:
        return rate.capacity
    return min(rate.capacity, bucket.left + max(0.0, now_s - bucket.at_s) * rate.per_s)
