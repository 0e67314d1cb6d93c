"""Large results that are no longer kept leave the bucket, now and then.

Each time in a process of its own, which ends: the S3 client would cost whoever runs it all day 36 MB for a
second's work an hour. `python -m headrace.registry.purge` does it once, with the settings of the environment.
"""

import asyncio
import logging
import subprocess
import sys
import time
from typing import Final

from headrace import settings as configuration
from headrace.contracts.errors import SetupError, Unavailable
from headrace.registry.claims import Claims

_log = logging.getLogger(__name__)

_COMMAND: Final = (sys.executable, "-m", "headrace.registry.purge")
_FIRST_S: Final = 600.0
"""Soon enough for a stack that is up for an hour a day, and not while everything starts."""
_INTERVAL_S: Final = 3600.0


async def regularly() -> None:
    """Purge for ever; a purge that fails is told and comes again."""
    pause_s = _FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        await once()
        pause_s = _INTERVAL_S


async def once() -> bool:
    """Purge now, in a process of its own; False when it failed."""
    process = await asyncio.create_subprocess_exec(
        *_COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = output.decode(errors="replace").strip()
    if process.returncode:
        _log.warning("large results stay for now: %s", said)
    elif said:
        _log.info("%s", said)
    return not process.returncode


def main() -> int:
    """Purge once with the settings of the environment; says what it did, and returns an exit code."""
    try:
        settings = configuration.load()
        kept = Claims(settings.s3)
        removed = asyncio.run(kept.purge(time.time(), settings.dispatcher.result_retention_s))
    except (SetupError, Unavailable) as error:
        print(error.__cause__ or error)  # noqa: T201  # our parent's log
        return 1
    if removed:
        print(f"{removed} large results removed")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
