"""May this tenant ask for one more? A token bucket and a count, as values. Pure.

A bucket holds up to `burst` requests and fills at `rate_per_s`. A full bucket says no more than none, so
whoever keeps buckets may forget those that nobody has used for long.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from headrace.contracts.errors import Overloaded

MAX_RETRY_AFTER_S: Final = 60
_SLOT_RETRY_S: Final = 1
"""Nobody knows when a request ends; asking again after a second costs little."""


class OverLimit(Overloaded):
    """A tenant asked for more than it may. `retry_after_s`: whole seconds, from 1 to 60."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What every tenant may do at one gateway; None: no limit.

    burst: requests at once after a pause; None: those of one second, and at least one.
    """

    max_waiting: int | None = None
    rate_per_s: float | None = None
    burst: int | None = None

    @property
    def is_any(self) -> bool:
        """Whether there is anything to decide."""
        return self.max_waiting is not None or self.rate_per_s is not None

    @property
    def capacity(self) -> float:
        """Requests that a full bucket holds."""
        return float(self.burst) if self.burst is not None else max(1.0, self.rate_per_s or 0.0)


class Bucket(NamedTuple):
    """Requests left at a moment."""

    tokens: float
    at_s: float


class Allowed(NamedTuple):
    """It may. `bucket` is what is left; None without a rate."""

    bucket: Bucket | None


class Refused(NamedTuple):
    """It may not, and nothing changes."""

    reason: str
    retry_after_s: int


def decide(limits: TenantLimits, bucket: Bucket | None, waiting: int, now_s: float) -> Allowed | Refused:
    """Whether a tenant with so many requests waiting may send one more; `bucket` None is a full one."""
    if limits.max_waiting is not None and waiting >= limits.max_waiting:
        return Refused(f"{waiting} of its requests wait at this gateway, as many as may", _SLOT_RETRY_S)
    if limits.rate_per_s is None:
        return Allowed(None)
    left = tokens(limits, bucket, now_s)
    if left >= 1.0:
        return Allowed(Bucket(left - 1.0, now_s))
    retry_after_s = math.ceil((1.0 - left) / limits.rate_per_s)
    reason = f"it may send {limits.rate_per_s:g} requests a second to this gateway"
    return Refused(reason, min(max(retry_after_s, 1), MAX_RETRY_AFTER_S))


def tokens(limits: TenantLimits, bucket: Bucket | None, now_s: float) -> float:
    """Requests in the bucket now. A clock that went back adds none."""
    if bucket is None:
        return limits.capacity
    gained = max(0.0, now_s - bucket.at_s) * (limits.rate_per_s or 0.0)
    return min(limits.capacity, bucket.tokens + gained)
