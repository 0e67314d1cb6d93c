"""Ends a process whose event loop has stopped turning.

A stuck loop cannot leave its group, so its partitions would wait for the session timeout and then the
zombie would go on with work that is no longer its own. Ending is cleaner: the actuator sees it and sends the
obituary.
"""

import asyncio
import faulthandler
import os
import sys
import threading
import time
from typing import Final

EXIT_CODE: Final = 70
_BEAT_S: Final = 1.0


class Watchdog:
    """A thread that looks at a beat which the loop has to give. `stall_s` without one ends the process."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._beat_s = time.monotonic()
        self._over = threading.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._task = asyncio.create_task(self._beat())
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._over.set()
        if self._task is not None:
            self._task.cancel()

    async def _beat(self) -> None:
        while True:
            self._beat_s = time.monotonic()
            await asyncio.sleep(_BEAT_S)

    def _watch(self) -> None:
        while not self._over.wait(_BEAT_S):
            stalled_s = time.monotonic() - self._beat_s
            if stalled_s > self._stall_s:
                sys.stderr.write(f"the event loop has stood still for {stalled_s:.0f} s; ending\n")
                faulthandler.dump_traceback(sys.stderr)
                os._exit(EXIT_CODE)
