"""Results that Kafka does not take, on their way to the bucket."""

import asyncio
import logging
import time
from typing import Final

from headrace.contracts.claims import Claim, Made
from headrace.contracts.errors import BodyTooLarge, Unavailable
from headrace.core.claims import ClaimStore

_log = logging.getLogger(__name__)

_RETRY_S: Final = (0.1, 0.5, 2.0, 5.0)
_PATIENCE_S: Final = 60.0
"""After so long the caller is told: a worker full of results that it cannot put away serves nobody."""


class Keeper:
    """Puts large results where their callers find them. `store` None: there is no bucket."""

    def __init__(self, store: ClaimStore | None, limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes

    async def keep(self, made: Made, body: bytes) -> Claim:
        """Keep a result; durable when it returns.

        Raises:
            BodyTooLarge: it is over the limit, or there is no bucket.
            Unavailable: the bucket could not be used for a minute.
        """
        what = f"The result has {len(body)} bytes, more than Kafka takes"
        if self._store is None:
            raise BodyTooLarge(f"{what}, and there is no bucket to keep it in: set HEADRACE_S3_BUCKET")
        if len(body) > self._limit_bytes:
            raise BodyTooLarge(
                f"{what} and more than the {self._limit_bytes} of HEADRACE_WORKER_MAX_RESULT_BYTES"
            )
        until_s = time.monotonic() + _PATIENCE_S
        attempt = 0
        while True:
            try:
                return await self._store.put(made, body, until_s - time.monotonic())
            except Unavailable as error:
                _log.warning("request %s: result not kept yet: %s", made.request_id, error)
                pause_s = _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
                if time.monotonic() + pause_s >= until_s:
                    raise Unavailable(
                        f"{what}, and the bucket to keep it in could not be used; ask again later"
                    ) from None
                await asyncio.sleep(pause_s)
                attempt += 1


NOWHERE: Final = Keeper(None, 0)
"""For who has no bucket."""
