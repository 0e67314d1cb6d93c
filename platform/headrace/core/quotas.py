"""What a tenant may use in a day of UTC, and how many jobs of its may wait. Pure."""

from math import ceil
from typing import Final, NamedTuple, Protocol

from headrace.contracts.errors import QueueFull, QuotaSpent
from headrace.core.limits import MAX_RETRY_AFTER_S, TenantLimits

DAY_S: Final = 86_400
_JOB_RETRY_S: Final = 5


class Spent(NamedTuple):
    """What was used in a day."""

    requests: int = 0
    tokens: int = 0

    def plus(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(self.requests + other.requests, self.tokens + other.tokens)

    def less(self, other: "Spent") -> "Spent":
        """What is left without the other."""
        return Spent(self.requests - other.requests, self.tokens - other.tokens)


NOTHING: Final = Spent()


class Ledger(Protocol):
    """Where days are kept, for all gateways together; see `store.usage.Usage`."""

    async def add(self, day: int, spent: dict[str, Spent]) -> None:
        """Add to accounts; they are there from then on, even with nothing spent.

        Raises:
            Unavailable: the database does not serve; nothing was added, or all was.
        """
        ...

    async def of(self, day: int, accounts: list[str]) -> dict[str, Spent]:
        """What these accounts have spent; those that are not there are absent.

        Raises:
            Unavailable: the database does not serve.
        """
        ...


def day_of(now_s: float) -> int:
    """The day's number; day 0 began with 1970."""
    return int(now_s // DAY_S)


def tenant_account(tenant: str) -> str:
    """The account of a tenant; no key's id looks like it."""
    return f"tenant/{tenant}"


def check_quota(who: str, limits: TenantLimits, spent: Spent, now_s: float) -> None:
    """Refuse a request of an account that has used up its day. `who`: the beginning of the sentence.

    Raises:
        QuotaSpent: so it is.
    """
    reached = None
    if limits.requests_per_day is not None and spent.requests >= limits.requests_per_day:
        reached = f"{limits.requests_per_day} requests"
    elif limits.tokens_per_day is not None and spent.tokens >= limits.tokens_per_day:
        reached = f"{limits.tokens_per_day} tokens"
    if reached is None:
        return
    left_s = ceil((day_of(now_s) + 1) * DAY_S - now_s)
    raise QuotaSpent(
        f"{who} used up the day's quota of {reached}; nothing was queued. A new day begins at 00:00 UTC, in "
        f"{left_s} s",
        left_s,
    )


def check_jobs(who: str, waiting: int, limit: int) -> None:
    """Refuse a job of a tenant that has as many unfinished as it may.

    Raises:
        QueueFull: so it is.
    """
    if waiting >= limit:
        raise QueueFull(
            f"{who} {waiting} unfinished jobs, as many as may be; nothing was queued. "
            f"Try again in {_JOB_RETRY_S} s",
            _JOB_RETRY_S,
        )


def heeded_retry_after_s(left_s: int) -> int | None:
    """When to come back, if that is soon enough for a client to wait for."""
    return left_s if left_s <= MAX_RETRY_AFTER_S else None
