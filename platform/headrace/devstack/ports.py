"""Ports on the loopback address."""

import errno
import socket
from typing import Final

from headrace.contracts.errors import SetupError

HOST: Final = "127.0.0.1"


def claim(port: int, option: str, what: str) -> int:
    """The port to use for `what`: the given one if it is free, any free one for 0.

    Raises:
        SetupError: the port is taken; the sentence names the option that changes it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise SetupError(
                f"Port {port} for {what} {why}: choose another with {option}, 0 for any"
            ) from None
        number: int = probe.getsockname()[1]
        return number


def free(count: int) -> list[int]:
    """Free ports, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def answers(port: int) -> bool:
    """Whether something listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
