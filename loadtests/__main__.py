"""`python -m loadtests`: start, measure, compare, stop."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
import uvloop

from loadtests.report import Result, as_json, as_table
from loadtests.rig import arms
from loadtests.rounds import Plan, run
from loadtests.scenarios import BY_NAME, SCENARIOS
from loadtests.stack import StackError, Target, embedded

_RESULTS: Final = Path(__file__).parent / "results"


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds of each arm (default 5)")
    parser.add_argument("--requests", type=int, default=2000, help="requests in a round (default 2000)")
    parser.add_argument("--concurrency", type=int, default=64, help="requests at once (default 64)")
    parser.add_argument(
        "--scenario", action="append", choices=sorted(BY_NAME), help="only this one; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="JSON on standard output, the table on stderr")
    parser.add_argument("--against", metavar="URL", help="a running stack instead of one started here")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="its broker; needed with --against")
    parser.add_argument(
        "--model", default="echo", help="with --against: a model on engine echo (default echo)"
    )
    options = parser.parse_args(arguments)
    if min(options.rounds, options.requests, options.concurrency) < 1:
        parser.error("--rounds, --requests and --concurrency must be at least 1")
    if bool(options.against) != bool(options.kafka):
        parser.error("--against and --kafka go together")
    return options


async def _measure(options: argparse.Namespace) -> bool:
    chosen = tuple(BY_NAME[name] for name in options.scenario) if options.scenario else SCENARIOS
    plan = Plan(options.rounds, options.requests, options.concurrency)
    out = sys.stderr if options.json else sys.stdout
    load_before = os.getloadavg()
    results: list[Result] = []
    async with AsyncExitStack() as stack:
        target = await _target(stack, options)
        built = await stack.enter_async_context(arms(target, chosen))
        for scenario in chosen:
            result = Result(scenario, plan.concurrency_of(scenario), await run(scenario, built, plan))
            results.append(result)
            print(as_table(result), file=out, flush=True)
    document = orjson.dumps(as_json(results, plan, load_before), option=orjson.OPT_INDENT_2)
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_bytes(document)
    print(f"\nwritten to {path}", file=out)
    if options.json:
        print(document.decode())
    return all(result.is_clean for result in results)


async def _target(stack: AsyncExitStack, options: argparse.Namespace) -> Target:
    if options.against:
        return Target(options.against, options.kafka, options.model)
    return await stack.enter_async_context(embedded())


async def _until_told(options: argparse.Namespace) -> bool:
    """Measure; SIGTERM and Ctrl-C end it with everything stopped, which a second one does not cut short."""
    task = asyncio.create_task(_measure(options))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return await task


def main() -> int:
    """Exit code 0, 1 when an answer was wrong, lost or repeated, 2 when nothing could be measured."""
    options = _options()
    # A topic just made has no leader for a moment: aiokafka calls that an error, and tries again.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return 0 if uvloop.run(_until_told(options)) else 1
    except StackError as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("loadtests: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
