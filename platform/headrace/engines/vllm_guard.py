"""Ends the engine core when this process is gone, however it went.

vLLM's engine core does not notice that: it would run on for ever, with all the GPU's memory in its hands and
a core busy.
"""

import asyncio
import multiprocessing
import subprocess
from typing import Final

_SCRIPT: Final = 'all=; while read -r pid; do all="$all $pid"; done; kill -9 $all 2>/dev/null'
_NAME: Final = "EngineCore"
_LOOK_AGAIN_S: Final = 0.2


class Guard:
    """A shell that waits for the end of a pipe which only this process holds open."""

    def __init__(self) -> None:
        # A session of its own, so that Ctrl-C does not end the guard before what it guards.
        self._shell = subprocess.Popen(  # noqa: S603  # our own words
            ["/bin/sh", "-c", _SCRIPT], stdin=subprocess.PIPE, start_new_session=True
        )
        self._known: set[int] = set()

    async def watch(self) -> None:
        """Guard every engine core that this process starts, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_AGAIN_S)

    def look(self) -> None:
        """Guard the engine cores that there are now."""
        for child in multiprocessing.active_children():
            if child.name.startswith(_NAME) and child.pid is not None and child.pid not in self._known:
                self._known.add(child.pid)
                assert self._shell.stdin is not None
                self._shell.stdin.write(b"%d\n" % child.pid)
                self._shell.stdin.flush()

    def close(self) -> None:
        """End the guard; the engine core has ended."""
        # Before the pipe is closed: the numbers may be others' by now.
        self._shell.kill()
        self._shell.communicate()
