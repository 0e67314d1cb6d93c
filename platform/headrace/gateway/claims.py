"""Answers that lie in the bucket, brought to the callers who wait for them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from headrace.contracts import claims
from headrace.contracts.errors import HeadraceError, InternalError, InvalidRequest
from headrace.core.claims import ClaimStore
from headrace.core.ports import Record

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 60.0
"""The library tries again by itself within it; who waits has a deadline of its own."""


class Collector:
    """Fetches answers beside everything else. `store` None: there is no bucket."""

    def __init__(self, store: ClaimStore | None, limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self, record: Record, deliver: Callable[[Record], None], fail: Callable[[HeadraceError], None]
    ) -> None:
        """Hand `record` to `deliver` with the answer as its value; or tell `fail` why not."""
        task = asyncio.create_task(self._collect(record, deliver, fail))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _collect(
        self, record: Record, deliver: Callable[[Record], None], fail: Callable[[HeadraceError], None]
    ) -> None:
        try:
            value = await self.fetch(record.headers)
        except HeadraceError as error:
            _log.warning("reply at %s: %s", record.place, error)
            fail(error)
        except Exception:  # noqa: BLE001  # the caller hears of it, whatever it is
            _log.exception("reply at %s cannot be fetched", record.place)
            fail(InternalError("The answer could not be fetched from the bucket for large results"))
        else:
            deliver(record._replace(value=value))

    async def fetch(self, headers: dict[str, bytes]) -> bytes:
        """The answer that these headers of a reply speak of.

        Raises:
            Unavailable: the bucket does not serve.
            InternalError: it is not there, too large, or not ours.
        """
        store = self._store
        if store is None:
            raise InternalError(
                "The answer lies in a bucket that this gateway does not know: set HEADRACE_S3_BUCKET"
            )
        try:
            claim = claims.read(headers, store.bucket)
        except InvalidRequest as error:
            raise InternalError(error.message) from None
        if claim is None:
            raise InternalError("The answer does not say where it lies")
        if claim.size_bytes > self._limit_bytes:
            raise InternalError(
                f"The answer has {claim.size_bytes} bytes, more than the {self._limit_bytes} of "
                "HEADRACE_GATEWAY_MAX_RESULT_BYTES"
            )
        return await store.get(claim, _PATIENCE_S)


NOWHERE: Final = Collector(None, 0)
"""For a gateway that has no bucket."""
