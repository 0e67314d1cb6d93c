"""What readers of the topic `streams` need of it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from headrace.core.ports import Record


class Span(NamedTuple):
    """Offsets of a partition: of the first record that counts, and of the next to be written."""

    start: int
    end: int


class StreamLog(Protocol):
    """The topic, partition by partition."""

    async def span(self, partition: int, since_s: float) -> Span:
        """What has been written since a time.

        Raises:
            Unavailable: Kafka does not say.
        """
        ...

    async def end(self, partition: int) -> int:
        """The offset of the next record to be written.

        Raises:
            Unavailable: Kafka does not say.
        """
        ...

    def read_from(self, partition: int, offset: int) -> None:
        """Let `poll` give this partition, from there on."""
        ...

    def leave(self, partition: int) -> None:
        """Let `poll` give it no more."""
        ...

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """The next records; empty after `timeout_s`."""
        ...
