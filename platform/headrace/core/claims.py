"""What the shells need to keep large results elsewhere than in Kafka."""

from typing import Protocol

from headrace.contracts.claims import Claim, Made


class ClaimStore(Protocol):
    """Keeps results by claim."""

    @property
    def bucket(self) -> str:
        """The one bucket that claims of ours are in."""
        ...

    async def put(self, made: Made, body: bytes, timeout_s: float) -> Claim:
        """Keep a result; when it returns, the result is durable.

        Raises:
            Unavailable: the store does not serve, or not in time; the same may be put again.
        """
        ...

    async def get(self, claim: Claim, timeout_s: float) -> bytes:
        """The exact bytes that were put.

        Raises:
            Unavailable: the store does not serve, or not in time.
            InternalError: they are not there any more, or they are other bytes.
        """
        ...
