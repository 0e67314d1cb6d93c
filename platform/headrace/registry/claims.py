"""Large results in the bucket: put by workers, fetched by gateways, removed when results are no longer kept.

The whole conversation with S3 is held in threads of its own, each with its own event loop: importing the
client takes two seconds, its description of S3 and a digest of 64 MiB tenths of one, and meanwhile a worker
must go on decoding and a gateway answering. Neither pays for any of it before the first large result.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from headrace.contracts import claims
from headrace.contracts import headers as h
from headrace.contracts.claims import Claim, Made
from headrace.contracts.errors import InternalError, InvalidRequest, SetupError, Unavailable
from headrace.core.archive import FinalResult
from headrace.registry.s3 import Bucket, NoSuchObject
from headrace.settings import S3Settings

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 4
"""Conversations at once: each holds a result of up to `max_result_bytes` once more."""
_BODY_S: Final = 60.0
_PURGE_S: Final = 600.0

_T = TypeVar("_T")


class _Own(threading.local):
    """Each thread's own way to the bucket, because the library's sessions are not for several threads."""

    def __init__(self, settings: S3Settings) -> None:
        self.bucket = Bucket(settings)


class Claims:
    """Fills `core.claims.ClaimStore`."""

    def __init__(self, settings: S3Settings) -> None:
        self._name = settings.bucket
        self._own = _Own(settings)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="claims")

    @property
    def bucket(self) -> str:
        """The one bucket that claims of ours are in."""
        return self._name

    async def put(self, made: Made, body: bytes, timeout_s: float) -> Claim:
        """Keep a result; when it returns, the result is durable.

        Raises:
            Unavailable: S3 does not serve, or not in time; the same may be put again.
        """

        async def work() -> Claim:
            claim = claims.claim(made, self.bucket, body, time.time())
            await self._own.bucket.put(claim.key, body, h.JSON.decode())
            return claim

        return await self._apart(work, timeout_s)

    async def get(self, claim: Claim, timeout_s: float) -> bytes:
        """The exact bytes that were put.

        Raises:
            Unavailable: S3 does not serve, or not in time.
            InternalError: they are not there any more, or they are other bytes.
        """

        async def work() -> bytes:
            # One byte more than there should be tells a longer object from the right one.
            body = await self._own.bucket.get_at_most(claim.key, claim.size_bytes + 1)
            claims.check(claim, body)
            return body

        return await self._apart(work, timeout_s)

    async def body(self, result: FinalResult) -> bytes:
        """The body of a kept result, from wherever it is.

        Raises:
            Unavailable: S3 does not serve, or not in time.
            InternalError: it is not there any more.
        """
        if result.claim_json is None:
            return result.body
        told = {name: text.encode() for name, text in json.loads(result.claim_json).items() if text}
        try:
            claim = claims.read(told, self.bucket)
        except InvalidRequest as error:
            raise InternalError(error.message) from None
        return result.body if claim is None else await self.get(claim, _BODY_S)

    async def purge(self, now_s: float, retention_s: float) -> int:
        """Remove the results of days that are over for longer than results are kept; returns how many.

        Raises:
            Unavailable: S3 does not serve, or refuses us; what was not removed stays for the next time.
        """

        async def work() -> int:
            removed = 0
            for folder in await self._own.bucket.folders(claims.PREFIX):
                if claims.folder_has_expired(folder, retention_s, now_s):
                    removed += await self._own.bucket.remove(folder)
            return removed

        return await self._apart(work, _PURGE_S)

    def close(self) -> None:
        """Start nothing more; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _apart(self, work: Callable[[], Coroutine[Any, Any, _T]], timeout_s: float) -> _T:
        until_s = time.monotonic() + timeout_s

        async def in_time() -> _T:
            # Zero or less, for one that had to queue too long, ends it before it begins.
            async with asyncio.timeout(until_s - time.monotonic()):
                return await work()

        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: asyncio.run(in_time())
            )
        except InvalidRequest as error:
            raise InternalError(error.message) from None
        except NoSuchObject as error:
            _log.warning("%s", error)
            raise InternalError("The result is no longer in the bucket, or was never there") from None
        except SetupError as error:
            _log.warning("%s", error)
            raise Unavailable("The bucket for large results cannot be used now") from error
        except TimeoutError:
            raise Unavailable("The bucket for large results did not answer in time") from None
