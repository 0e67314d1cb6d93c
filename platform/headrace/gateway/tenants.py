"""How much each tenant may ask for."""

from collections.abc import Callable
from typing import Final, NamedTuple

from headrace.core.limits import (
    FULL,
    Buckets,
    OverLimit,
    Refused,
    Standing,
    TenantLimits,
    correct,
    decide,
    estimate,
)
from headrace.core.usage import usage_of
from headrace.settings import GatewaySettings

_MAX_BUCKETS: Final = 10_000
"""Two megabytes. The bucket used longest ago is forgotten first, which gives its tenant a new burst."""


class Account(NamedTuple):
    """Who is counted. limits: its own; None: those that the settings name for every tenant.

    key: of a key that has limits of its own; empty for the tenant itself. tenant None: of all who name none.
    """

    tenant: bytes | None = None
    key: str = ""
    limits: TenantLimits | None = None


NOBODY: Final = Account()


class Tenants:
    """Counts and buckets at this gateway. `limits`: of those who have none of their own."""

    def __init__(self, limits: TenantLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[bytes | str | None, Buckets] = {}
        # Only who has any; bounded by the gateway's own limit.
        self._waiting: dict[bytes | str | None, int] = {}

    def __len__(self) -> int:
        """How many tenants and keys have buckets."""
        return len(self._buckets)

    def admit(self, account: Account, size_bytes: int = 0) -> Standing | None:
        """Take one more request in; `release` follows when it is over. None: nothing limits it.

        Raises:
            OverLimit: a limit is reached; nothing was counted.
        """
        limits = account.limits or self._limits
        if not limits.is_paced:
            return None
        name = account.key or account.tenant
        waiting = self._waiting.get(name, 0)
        buckets = self._buckets.get(name, FULL)
        answer = decide(limits, buckets, waiting, self._clock(), estimate(size_bytes))
        if isinstance(answer, Refused):
            raise OverLimit(
                f"{who(account)} reached a limit: {answer.reason}. Try again in {answer.retry_after_s} s",
                answer.retry_after_s,
                answer.standing,
            )
        if limits.max_waiting is not None:
            self._waiting[name] = waiting + 1
        if answer.buckets != FULL:
            self._keep(name, answer.buckets)
        return answer.standing

    def release(self, account: Account, size_bytes: int = 0, answer: bytes = b"") -> None:
        """A request that was admitted is over; its `answer` says what it took, if it does."""
        limits = account.limits or self._limits
        if not limits.is_paced:
            return
        name = account.key or account.tenant
        left = self._waiting.pop(name, 0) - 1
        if left > 0:
            self._waiting[name] = left
        if limits.tokens_per_min is None:
            return
        used = usage_of(answer)
        if used.input_tokens is not None or used.output_tokens is not None:
            more = (used.input_tokens or 0) + (used.output_tokens or 0) - estimate(size_bytes)
            self._keep(name, correct(limits, self._buckets.get(name, FULL), more, self._clock()))

    def _keep(self, name: bytes | str | None, buckets: Buckets) -> None:
        self._buckets.pop(name, None)
        # Insertion order is the order of use.
        self._buckets[name] = buckets
        if len(self._buckets) > _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]


def who(account: Account) -> str:
    """The beginning of a sentence of what it has done."""
    if account.key:
        return f"API key {account.key} has"
    if account.tenant is None:
        return "Callers without a tenant have"
    return f"Tenant '{account.tenant.decode()}' has"


def limits_of(settings: GatewaySettings) -> TenantLimits:
    """The limits that the settings name."""
    return TenantLimits(
        settings.tenant_max_waiting,
        settings.tenant_rate_per_s,
        settings.tenant_burst,
        settings.tenant_tokens_per_min,
        settings.tenant_requests_per_day,
        settings.tenant_tokens_per_day,
    )
