"""The stack under load: one that is started here in a temporary folder, or one that already runs."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import orjson

from loadtests.processes import ROOT, Child, workers_below

_READY_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Target:
    """A running stack. `pids` of the processes whose CPU time is counted; none for a stack elsewhere.

    environment: of its roles, for another one beside them.
    """

    http_url: str
    bootstrap_servers: str
    model: str
    pids: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


class StackError(Exception):
    """The stack did not start; the message says why."""


@asynccontextmanager
async def embedded(
    function: Path = ROOT / "functions" / "echo",
    name: str = "echo",
    changes: Mapping[str, str] | None = None,
    more: Sequence[Path] = (),
) -> AsyncIterator[Target]:
    """`headrace up` with a function of that name on free ports; stopped, its folder removed, at the end.

    changes: to its environment. more: functions beside it.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-load-") as folder:
        ready = Path(folder) / "ready.json"
        ports = ["--http-port", "0", "--kafka-port", "0", "--s3-port", "0"]
        functions = [option for path in (function, *more) for option in ("--functions", str(path))]
        options = [*functions, "--ready-file", str(ready), *ports]
        child = await Child.start(
            "-m", "headrace", "up", "--data-dir", f"{folder}/data", *options, changes=changes
        )
        try:
            target = await _wait(child, ready, name)
            state = orjson.loads((Path(folder) / "data" / "run" / "stack.json").read_bytes())
            yield replace(target, environment=state["environment"])
        finally:
            await child.stop()


async def _wait(child: Child, ready: Path, name: str) -> Target:
    try:
        async with asyncio.timeout(_READY_S):
            while not ready.exists():  # noqa: ASYNC240  # a look, nothing else runs yet
                if child.exit_code is not None:
                    raise StackError(f"`headrace up` ended with {child.exit_code}; its own message is above")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise StackError(f"`headrace up` was not ready within {_READY_S:.0f} s") from None
    state = orjson.loads(ready.read_bytes())  # noqa: ASYNC240
    pids: dict[str, int] = state["pids"]
    workers = workers_below(pids["scaler"]) if "scaler" in pids else {}
    return Target(state["http_url"], state["kafka_bootstrap_servers"], name, pids | workers)
