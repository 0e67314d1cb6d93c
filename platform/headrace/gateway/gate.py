"""The last door before Kafka: is it there, is there room, may this tenant. All or nothing."""

from collections.abc import Callable

from headrace.contracts.errors import Unavailable
from headrace.contracts.events import ModelDeployed
from headrace.core.limits import Standing
from headrace.gateway.queues import Queues
from headrace.gateway.tenants import Account, Tenants
from headrace.settings import GatewaySettings


class Gate:
    """Lets requests through. silent_s: how long Kafka has owed us confirmations and gave none."""

    def __init__(self, settings: GatewaySettings, tenants: Tenants, queues: Queues) -> None:
        self._hung_s = settings.silence_s
        self._tenants = tenants
        self.queues = queues
        self.silent_s: Callable[[], float] = lambda: 0.0

    def enter(self, model: ModelDeployed, account: Account, size_bytes: int) -> Standing | None:
        """Take a request in, for which `leave` is called when it is over; gives what its tenant has left.

        Raises:
            Unavailable: Kafka is hung.
            QueueFull: too many wait for the model.
            OverLimit: the tenant has reached a limit.
        """
        silent_s = self.silent_s()
        if silent_s > self._hung_s:
            raise Unavailable(
                f"Kafka has confirmed nothing for {silent_s:.0f} s; nothing was queued. Try again in a moment"
            )
        self.queues.check(model)
        standing = self._tenants.admit(account, size_bytes)
        self.queues.sent(model)
        return standing

    def leave(self, model: ModelDeployed, account: Account, size_bytes: int, answer: bytes) -> None:
        """A request is over; `answer` may say what it took."""
        self.queues.ended(model)
        self._tenants.release(account, size_bytes, answer)

    def pass_by(self, model: ModelDeployed, account: Account, size_bytes: int) -> Standing | None:
        """Take in a request for which nobody waits here. Raises as `enter` does."""
        standing = self.enter(model, account, size_bytes)
        self._tenants.release(account)
        return standing
