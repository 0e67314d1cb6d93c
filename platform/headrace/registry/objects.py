"""Callers' files in the bucket, written and read piece by piece.

The conversation with S3 has a thread and an event loop of its own: importing the client takes two seconds,
and a digest of a file its time too, while a gateway must go on answering. Started by the first file.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, BinaryIO, Final, TypeVar

from headrace.contracts.errors import NotFound, SetupError, Unavailable
from headrace.core.files import Kept
from headrace.registry.s3 import Bucket, NoSuchObject
from headrace.registry.uploads import Upload
from headrace.settings import S3Settings

_log = logging.getLogger(__name__)

_PIECE_BYTES: Final = 1 << 20

_T = TypeVar("_T")


class Objects:
    """Fills `core.files.ObjectStore`."""

    def __init__(self, settings: S3Settings) -> None:
        self._bucket = Bucket(settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_made = False

    async def keep(self, key: str, file: BinaryIO) -> Kept:
        """Write a whole file, from its beginning.

        Raises:
            Unavailable: S3 does not serve; nothing was written.
        """

        async def work() -> Kept:
            await self._make()
            async with self._bucket.writing(key) as upload:
                file.seek(0)
                # Blocking reads are no matter here: the thread serves nobody else who is in a hurry.
                while piece := file.read(_PIECE_BYTES):
                    await upload.write(piece)
            return Kept(upload.size_bytes, upload.sha256)

        with _told():
            return await self._apart(work())

    async def read(self, key: str, start_bytes: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes from there on, piece by piece.

        Raises:
            NotFound: there is no such object.
            Unavailable: S3 does not serve.
        """
        pieces = self._bucket.stream(key, start_bytes)
        try:
            with _told():
                while piece := await self._apart(_next(pieces)):
                    yield piece
        finally:
            await asyncio.shield(self._apart(pieces.aclose()))

    @asynccontextmanager
    async def writing(self, key: str) -> AsyncIterator["_Writer"]:
        """Write piece by piece; the object is there when the block ends well, and not at all otherwise.

        Raises:
            Unavailable: S3 does not serve.
        """
        with _told():
            await self._apart(self._make())
            # Opened and closed in the thread, step by step: the block itself runs in ours.
            opened = self._bucket.writing(key)
            upload = await self._apart(opened.__aenter__())
            writer = _Writer(self, upload)
            try:
                yield writer
                await writer.flush()
            except BaseException as error:
                await self._apart(_leave(opened, error))
                raise
            await self._apart(_leave(opened, None))

    async def remove(self, key: str) -> None:
        """Remove the object, and what is left of attempts to write it.

        Raises:
            Unavailable: S3 does not serve.
        """

        async def work() -> None:
            await self._bucket.abort_uploads(key)
            await self._bucket.remove(key)

        with _told():
            await self._apart(work())

    def close(self) -> None:
        """Start nothing more; what runs ends by itself."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    async def apart(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run in the thread."""
        return await self._apart(work)

    async def _make(self) -> None:
        if not self._is_made:
            await self._bucket.ensure()
            self._is_made = True

    async def _apart(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=partial(_serve, self._loop), name="objects", daemon=True).start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


class _Writer:
    """Fills `core.files.Writer`; hands over a megabyte at once, so that small writes change no thread."""

    def __init__(self, objects: Objects, upload: Upload) -> None:
        self._objects = objects
        self._upload = upload
        self._pending = bytearray()

    @property
    def kept(self) -> Kept:
        """What was written, once it is whole."""
        return Kept(self._upload.size_bytes, self._upload.sha256)

    async def write(self, data: bytes) -> None:
        """Write on."""
        self._pending += data
        if len(self._pending) >= _PIECE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Hand over what waits."""
        data, self._pending = bytes(self._pending), bytearray()
        await self._objects.apart(self._upload.write(data))


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """The next piece; empty at the end."""
    async for piece in pieces:
        if piece:
            return piece
    return b""


async def _leave(opened: Any, error: BaseException | None) -> None:
    if error is None:
        await opened.__aexit__(None, None, None)
        return
    try:
        await opened.__aexit__(type(error), error, error.__traceback__)
    except BaseException as raised:
        if raised is not error:
            raise


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except NoSuchObject as error:
        _log.warning("%s", error)
        raise NotFound("The file is no longer in the bucket") from None
    except SetupError as error:
        _log.warning("%s", error)
        raise Unavailable("The bucket for files cannot be used now: try again in a moment") from error


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
