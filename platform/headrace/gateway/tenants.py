"""How much each tenant may ask for."""

from collections.abc import Callable
from typing import Final

from headrace.core.limits import Bucket, OverLimit, Refused, TenantLimits, decide
from headrace.settings import GatewaySettings

_MAX_BUCKETS: Final = 10_000
"""Two megabytes. The bucket used longest ago is forgotten first, which gives its tenant a new burst."""


class Tenants:
    """Counts and buckets of this gateway's tenants; None is the tenant of all who name none."""

    def __init__(self, limits: TenantLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[bytes | None, Bucket] = {}
        # Only who has any; bounded by the gateway's own limit.
        self._waiting: dict[bytes | None, int] = {}

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._buckets)

    def admit(self, tenant: bytes | None) -> None:
        """Take one more request in; `release` follows when it is over.

        Raises:
            OverLimit: the tenant has reached a limit; nothing was counted.
        """
        waiting = self._waiting.get(tenant, 0)
        answer = decide(self._limits, self._buckets.get(tenant), waiting, self._clock())
        if isinstance(answer, Refused):
            who = "Callers without a tenant have" if tenant is None else f"Tenant '{tenant.decode()}' has"
            raise OverLimit(
                f"{who} reached a limit: {answer.reason}. Try again in {answer.retry_after_s} s",
                answer.retry_after_s,
            )
        if self._limits.max_waiting is not None:
            self._waiting[tenant] = waiting + 1
        if answer.bucket is not None:
            self._keep(tenant, answer.bucket)

    def release(self, tenant: bytes | None) -> None:
        """A request that was admitted is over."""
        left = self._waiting.pop(tenant, 0) - 1
        if left > 0:
            self._waiting[tenant] = left

    def _keep(self, tenant: bytes | None, bucket: Bucket) -> None:
        self._buckets.pop(tenant, None)
        # Insertion order is the order of use.
        self._buckets[tenant] = bucket
        if len(self._buckets) > _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]


def limits_of(settings: GatewaySettings) -> TenantLimits:
    """The limits that the settings name."""
    return TenantLimits(settings.tenant_max_waiting, settings.tenant_rate_per_s, settings.tenant_burst)
