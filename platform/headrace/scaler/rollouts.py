"""What becomes of new versions: one that is well is remembered, one that is not makes place for it."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from headrace.contracts.decisions import Trusted
from headrace.contracts.topics import Topics
from headrace.core.ports import Outgoing, Publisher
from headrace.core.scaling import Worker
from headrace.scaler.fleet import TRUSTED, Fleet
from headrace.telemetry import metrics
from headrace.telemetry.instruments import Instruments

_log = logging.getLogger(__name__)


class Rollouts:
    """Writes down what `core.rollout` says. Only the scaler that acts asks it to."""

    def __init__(self, topics: Topics, publisher: Publisher, instruments: Instruments) -> None:
        self._topics = topics
        self._publisher = publisher
        self._instruments = instruments

    async def tick(
        self, fleet: Fleet, workers: Sequence[Worker], confirm: Callable[[], Awaitable[bool]], now_s: float
    ) -> None:
        """Trust and roll back. confirm: whether we still act."""
        for deployed in fleet.prove(workers, now_s):
            event = Trusted(deployed=deployed, at_s=now_s)
            await self._write(self._topics.scaler, f"{TRUSTED}{deployed.name}", event.encode())
            _log.info("version %s of %s is well", deployed.version, deployed.name)
            fleet.trust(deployed)
        for deployed in fleet.roll_backs(now_s):
            if deployed.rolled_back is None or not await confirm():
                return
            bad = deployed.rolled_back
            _log.error(
                "version %s of %s is taken out, and %s is back: %s",
                *(bad.version, deployed.name, deployed.version, bad.reason),
            )
            await self._write(self._topics.models, deployed.name, deployed.encode())
            self._instruments.series(metrics.ROLL_BACKS, deployed.name).add(1)
            # Not twice, however late we read what we have just written.
            fleet.deploy(deployed)

    async def _write(self, topic: str, key: str, value: bytes) -> None:
        await (await self._publisher.send(Outgoing(topic, value, key.encode())))
