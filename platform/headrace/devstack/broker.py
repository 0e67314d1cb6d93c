"""Apache Kafka in KRaft mode, on a Java that comes from a Python package."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from headrace.contracts.errors import SetupError
from headrace.devstack.distribution import Distribution, java
from headrace.devstack.ports import HOST
from headrace.devstack.processes import Service, run

# 3,000 topics fill -Xmx192m; serial collection and one compiler tier save memory and start-up.
_JVM: Final = (
    "-Xms64m",
    "-Xmx512m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxMetaspaceSize=128m",
    "-XX:ReservedCodeCacheSize=48m",
    "-XX:-UsePerfData",  # a task every 50 ms, for tools that nobody runs here
    "-XX:+ExitOnOutOfMemoryError",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
num.partitions=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# Above every request topic's retention: a model that was idle for a week must not replay its topic.
offsets.retention.minutes=40320
# The default of three seconds would be added to every start from nothing.
group.initial.rebalance.delay.ms=0
# After a kill -9 clients are served again in 3 s instead of 11; the heartbeat must be half of it at most.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
# No record of "nothing has happened" every half second: a third of an idle broker's work.
metadata.max.idle.interval.ms=0
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
"""


class Broker:
    """One broker, its own controller, with its data under `folder`."""

    def __init__(self, folder: Path, distribution: Distribution, port: int, controller_port: int) -> None:
        self._folder = folder
        self._distribution = distribution
        self.port = port
        self._controller_port = controller_port

    async def prepare(self, say: Callable[[str], None]) -> Service:
        """Fetch what is missing, write the settings, format the log directory; returns how to run it.

        Raises:
            SetupError: no Java, no way to fetch Kafka, or a log directory that Kafka refuses.
        """
        program = java()
        await self._distribution.ensure(say)
        self._folder.mkdir(parents=True, exist_ok=True)
        properties = self._folder / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                host=HOST,
                port=self.port,
                controller_port=self._controller_port,
                log_dir=self._folder / "log",
            )
        )
        start = [program, *_JVM, "-cp", self._distribution.class_path]
        if not (self._folder / "log" / "meta.properties").exists():
            await self._format(start, properties)
        return Service("kafka", [*start, "kafka.Kafka", str(properties)], {}, stop_s=10.0)

    async def _format(self, start: Sequence[str], properties: Path) -> None:
        # Zeros first: an id that begins with "-" would read as an option.
        cluster_id = urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(properties)]
        try:
            await run(Service("format", [*start, *tool], {}))
        except SetupError as error:
            raise SetupError(f"Kafka cannot format {self._folder / 'log'}: {error}") from None
