"""How a role ends: by signals, and by its parent's pipe."""

import signal
import subprocess
import sys

import pytest

# It needs a moment to drain.
ROLE = """
import asyncio
from headrace.cli.serve import serve

async def role(settings, stop):
    print("up", flush=True)
    await stop.wait()
    print("drains", flush=True)
    await asyncio.sleep(0.5)
    print("has drained", flush=True)

serve("role", role, parent_pipe=True)
"""


@pytest.fixture
def role():
    with subprocess.Popen([sys.executable, "-c", ROLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as it:
        assert it.stdout.readline() == b"up\n"
        yield it
        it.kill()


def test_a_parent_that_dies_does_not_hurry_who_was_told_to_drain(role):
    role.send_signal(signal.SIGTERM)
    assert role.stdout.readline() == b"drains\n"
    role.stdin.close()
    assert role.stdout.read() == b"has drained\n"
    assert role.wait(timeout=20) == 0


def test_a_parent_that_dies_is_a_word_to_drain(role):
    role.stdin.close()
    assert role.stdout.read() == b"drains\nhas drained\n"


def test_the_second_signal_means_now(role):
    role.send_signal(signal.SIGTERM)
    assert role.stdout.readline() == b"drains\n"
    role.send_signal(signal.SIGTERM)
    assert role.stdout.read() == b""
