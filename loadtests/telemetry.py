"""`python -m loadtests.telemetry`: what telemetry costs, in echo's requests a second.

Stacks beside each other, in turns, with 64 callers over HTTP: one without telemetry, one that sends traces
and metrics to a collector and serves Prometheus. `--other CHECKOUT` adds a stack of another checkout, without
telemetry, say of the commit before it came. The collector reads what comes and forgets it.
"""

import argparse
import asyncio
import logging
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from loadtests.answers import Shape, judge, questions, response_text
from loadtests.arms import HttpArm, Load
from loadtests.processes import cpu_s
from loadtests.stack import StackError, embedded

_CONCURRENCY: Final = 64
_GOALS: Final = {"on": 0.9, "off": 0.99}
_BASE: Final = {"on": "off", "off": "other"}


async def measure(rounds: int, requests: int, traces_per_s: float, other: Path | None) -> bool:
    """Start, measure, stop; whether every answer was right."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(_collector())
        environments = {
            "off": {},
            "on": {
                "HEADRACE_TELEMETRY_OTLP_ENDPOINT": url,
                "HEADRACE_TELEMETRY_PROMETHEUS_PORT": "0",
                "HEADRACE_TELEMETRY_TRACES_PER_S": str(traces_per_s),
            },
        }
        if other is not None:
            environments["other"] = {"PYTHONPATH": str(other / "platform")}
        arms = []
        for name, changes in environments.items():
            target = await stack.enter_async_context(embedded(changes=changes))
            ours = {role: pid for role, pid in target.pids.items() if role.startswith(("gateway", "worker"))}
            arms.append(HttpArm(name, target.http_url, Shape(target.model), ours))
        return await _turns(arms, rounds, requests)


async def _turns(arms: list[HttpArm], rounds: int, requests: int) -> bool:
    rates: dict[str, list[float]] = {arm.name: [] for arm in arms}
    costs: dict[str, list[float]] = {arm.name: [] for arm in arms}
    wrong = 0
    for number in range(rounds + 1):
        # Whoever comes first has the colder machine, so they take turns in that as well.
        for arm in arms if number % 2 else reversed(arms):
            asked = questions(requests, arm.shape)
            before_s = sum(cpu_s(arm.pids).values())
            run = await arm.run(asked, Load(_CONCURRENCY))
            used_s = sum(cpu_s(arm.pids).values()) - before_s
            verdict = judge(asked, run.answers, response_text)
            wrong += requests - verdict.right
            if number:
                rates[arm.name].append(verdict.right / run.wall_s)
                costs[arm.name].append(used_s / requests * 1e6)
        told = ", ".join(f"{name} {each[-1]:.0f}" for name, each in rates.items() if each)
        sys.stderr.write(f"round {number}: {told}\n")
    for name, base in _BASE.items():
        if base in rates:
            _report(name, base, [one / two for one, two in zip(rates[name], rates[base], strict=True)])
    for name, used_us in costs.items():
        sys.stdout.write(
            f"{name}: gateway and worker take {statistics.median(used_us):.0f} us of CPU for an answer "
            f"({min(used_us):.0f} to {max(used_us):.0f})\n"
        )
    sys.stdout.write(f"{wrong} wrong or lost\n")
    return not wrong


def _report(name: str, base: str, ratios: list[float]) -> None:
    ratio, goal = statistics.median(ratios), _GOALS[name]
    verdict = "met" if ratio >= goal else "MISSED"
    sys.stdout.write(
        f"telemetry {name}: {ratio:.3f} of the requests/s of '{base}' (rounds {min(ratios):.3f} to "
        f"{max(ratios):.3f}); goal >= {goal}: {verdict}\n"
    )


@asynccontextmanager
async def _collector() -> AsyncIterator[str]:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = next(
                    line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                )
                await reader.readexactly(int(size.partition(b":")[2]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.telemetry", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=3000, help="in a round")
    parser.add_argument("--traces-per-s", type=float, default=5.0, help="begun by the gateway")
    parser.add_argument("--other", type=Path, help="another checkout of Headrace")
    options = parser.parse_args()
    logging.basicConfig(level="ERROR")
    try:
        right = uvloop.run(measure(options.rounds, options.requests, options.traces_per_s, options.other))
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
