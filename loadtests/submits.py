"""`python -m loadtests.submits`: jobs taken in a second, beside what a bare FastAPI endpoint answers.

Each turn submits with `Prefer: respond-async`, and ends when all are accepted; before the next one begins,
every job has ended and its result is right. So while a turn is measured, workers, index and archive work on
what it submits, on the same cores.
"""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import httpx
import orjson
import uvloop

from loadtests.answers import Question, Shape, questions, response_text
from loadtests.arms import HttpArm, Load, Run
from loadtests.measures import median
from loadtests.processes import cpu_s
from loadtests.rig import fastapi
from loadtests.stack import StackError, embedded

GOAL: Final = 0.8
_CONCURRENCY: Final = 64
_PATIENCE_S: Final = 120.0


async def measure(rounds: int, requests: int) -> bool:
    """Start, measure, stop; whether every job ended with the right result."""
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(embedded())
        bare = await fastapi(stack, target)
        shape = Shape(target.model, response_text)
        prefer = "prefer: respond-async\r\n"
        ours = HttpArm("headrace jobs", target.http_url, shape, target.pids, prefer, status=202)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=target.http_url, timeout=60))
        ratios, wrong = [], 0
        for number in range(rounds + 1):
            asked = questions(requests, shape)
            before = cpu_s(target.pids)
            mine = await ours.run(asked, Load(_CONCURRENCY))
            used = {
                name: spent - before[name] for name, spent in cpu_s(target.pids).items() if name in before
            }
            wrong += await _unsettled(client, mine, asked)
            theirs = await bare.run(questions(requests, bare.shape), Load(_CONCURRENCY))
            ratio = theirs.wall_s / mine.wall_s
            told = ", ".join(f"{name} {spent / requests * 1e6:.0f}" for name, spent in sorted(used.items()))
            sys.stderr.write(
                f"{requests / mine.wall_s:.0f} submits/s, FastAPI {requests / theirs.wall_s:.0f}/s; "
                f"us of CPU for each: {told}\n"
            )
            if number:
                ratios.append(ratio)
    share = median(ratios)
    verdict = "met" if share >= GOAL else "MISSED"
    sys.stdout.write(
        f"submits: {_CONCURRENCY} at once: {share:.2f} of FastAPI's requests/s (rounds {min(ratios):.2f} to "
        f"{max(ratios):.2f}); goal >= {GOAL}: {verdict}; {wrong} wrong or lost\n"
    )
    return not wrong


async def _unsettled(client: httpx.AsyncClient, run: Run, asked: Sequence[Question]) -> int:
    """Wait for every job; returns how many have not ended as they should."""
    jobs = {each.question.id: orjson.loads(each.body)["id"] for each in run.answers if each.body is not None}
    until_s = time.monotonic() + _PATIENCE_S
    wrong = len(asked) - len(jobs)
    for name, job_id in jobs.items():
        while (job := (await client.get(f"/v1/jobs/{job_id}")).json())["status"] in ("queued", "in_progress"):
            if time.monotonic() > until_s:
                break
            await asyncio.sleep(0.1)
        result = job.get("result")
        wrong += result is None or not response_text(orjson.dumps(result)).startswith(name)
    return wrong


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.submits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000, help="in a round")
    options = parser.parse_args()
    logging.basicConfig(level="ERROR")
    try:
        return 0 if uvloop.run(measure(options.rounds, options.requests)) else 1
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
