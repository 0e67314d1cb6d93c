"""A key makes many sendings of a request one. Pure."""

from hashlib import sha256
from typing import NamedTuple, Protocol


class Claim(NamedTuple):
    """That a key stands for a request. fingerprint: of what was sent with it."""

    tenant: str
    key: str
    request_id: str
    fingerprint: str
    created_at_s: float
    expires_at_s: float


class Claims(Protocol):
    """Where claims are kept; see `store.idempotency`."""

    async def claim(self, wanted: Claim) -> Claim | None:
        """Take the key; the claim that has it, when it is taken."""
        ...

    async def release(self, claim: Claim) -> None:
        """Nothing was queued: the key is free again."""
        ...


def fingerprint(path: str, body: bytes, model: str) -> str:
    """Tells requests apart: SHA-256 in hex."""
    told = sha256()
    for part in (path.encode(), model.encode(), body):
        # The lengths first: no byte can move from one part to the next unseen.
        told.update(b"%d " % len(part))
        told.update(part)
    return told.hexdigest()
