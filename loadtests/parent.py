"""A child that ends with its parent: even a parent killed outright leaves nothing behind."""

import os
import signal
import sys
import threading


def stop_with_parent() -> None:
    """Send ourselves SIGTERM as soon as standard input, a pipe that the parent holds, ends."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while sys.stdin.buffer.read(1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
