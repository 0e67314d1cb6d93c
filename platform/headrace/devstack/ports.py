"""Ports on the loopback address."""

import errno
import socket
from typing import Final, Self

from headrace.contracts.errors import SetupError

HOST: Final = "127.0.0.1"


class Claims:
    """Ports chosen together, so that no two parts get the same one; use as a context manager.

    They are given back at its end, for those who asked to bind them.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for probe in self._held.values():
            probe.close()

    def claim(self, port: int, option: str, what: str) -> int:
        """The port to use for `what`: the given one if it is free, any free one for 0.

        Raises:
            SetupError: the port is taken; the sentence names the option that changes it.
        """
        try:
            return self._hold(port)
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise SetupError(
                f"Port {port} for {what} {why}: choose another with {option}, 0 for any"
            ) from None

    def free(self, count: int) -> list[int]:
        """Free ports, all different."""
        return [self._hold(0) for _ in range(count)]

    def _hold(self, port: int) -> int:
        if port in self._held:
            # The kernel lets one process bind a port twice while nothing listens.
            raise OSError(errno.EADDRINUSE, "Address already in use")
        probe = socket.socket()
        # As servers do: a port whose last connections are still fading away is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            probe.close()
            raise
        number: int = probe.getsockname()[1]
        self._held[number] = probe
        return number


def free(count: int) -> list[int]:
    """Free ports, all different, for one part alone."""
    with Claims() as claims:
        return claims.free(count)
