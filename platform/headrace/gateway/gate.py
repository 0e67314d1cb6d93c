"""The last door before Kafka: is it there, is there room, may this tenant. All or nothing."""

from collections.abc import Callable

from headrace.contracts.errors import Unavailable
from headrace.contracts.events import ModelDeployed
from headrace.core.limits import Standing
from headrace.gateway.meter import Meter
from headrace.gateway.queues import Queues
from headrace.gateway.tenants import Account, Tenants, limits_of
from headrace.gateway.unfinished import Unfinished
from headrace.settings import GatewaySettings


class Gate:
    """Lets requests through. silent_s: how long Kafka has owed us confirmations and gave none.

    clock: of the event loop.
    """

    def __init__(self, settings: GatewaySettings, queues: Queues, clock: Callable[[], float]) -> None:
        self._hung_s = settings.silence_s
        self._tenants = Tenants(limits_of(settings), clock)
        self.queues = queues
        self.meter = Meter(settings)
        self.unfinished = Unfinished(settings.tenant_max_jobs)
        self.silent_s: Callable[[], float] = lambda: 0.0

    def answers(self) -> None:
        """Go on if Kafka answers.

        Raises:
            Unavailable: it is hung.
        """
        silent_s = self.silent_s()
        if silent_s > self._hung_s:
            raise Unavailable(
                f"Kafka has confirmed nothing for {silent_s:.0f} s; nothing was queued. Try again in a moment"
            )

    def enter(
        self, model: ModelDeployed, account: Account, size_bytes: int, *, is_kept: bool = False
    ) -> Standing | None:
        """Take a request in, for which `leave` is called when it is over; gives what its tenant has left.

        is_kept: its answer is kept, so that it is a job.

        Raises:
            Unavailable: Kafka is hung.
            QueueFull: too many wait for the model, or too many jobs of the tenant.
            QuotaSpent: the tenant has used up its day.
            OverLimit: the tenant has reached a limit.
        """
        self.answers()
        self.queues.check(model)
        if is_kept:
            self.unfinished.check(account)
        self.meter.check(account)
        standing = self._tenants.admit(account, size_bytes)
        self.queues.sent(model)
        self.meter.took(account)
        if is_kept:
            self.unfinished.sent(account)
        return standing

    def leave(
        self, model: ModelDeployed, account: Account, size_bytes: int, answer: bytes, *, is_kept: bool = False
    ) -> None:
        """A request is over; `answer` may say what it took. What is kept is counted by the archive."""
        self.queues.ended(model)
        self._tenants.release(account, size_bytes, answer)
        if not is_kept:
            self.meter.used(account, size_bytes, answer)

    def pass_by(self, model: ModelDeployed, account: Account, size_bytes: int) -> Standing | None:
        """Take in a job, for which nobody waits here. Raises as `enter` does."""
        standing = self.enter(model, account, size_bytes, is_kept=True)
        self._tenants.release(account)
        return standing
