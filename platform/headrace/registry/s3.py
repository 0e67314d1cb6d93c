"""One bucket of any S3 service; the only importer of aioboto3."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from headrace.contracts.errors import SetupError
from headrace.registry.uploads import Upload
from headrace.settings import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

_CHUNK_BYTES: Final = 1 << 20
_DEFAULT_REGION: Final = "us-east-1"
_TAKEN: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})
_ABSENT: Final = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})


class NoSuchObject(SetupError):
    """The bucket has no object of that key, or there is no such bucket."""


def split_url(url: str) -> tuple[str, str]:
    """Bucket and key of `s3://BUCKET/KEY`.

    Raises:
        SetupError: it is not of this form.
    """
    parts = urlsplit(url)
    key = parts.path.lstrip("/")
    if parts.scheme != "s3" or not parts.netloc or not key:
        raise SetupError(f"{url!r} is not of the form s3://BUCKET/KEY")
    return parts.netloc, key


def preload() -> None:
    """Import what `Bucket` needs, for whoever has time now and none later: it takes half a second."""
    import aioboto3  # noqa: F401, PLC0415


class Bucket:
    """Objects by key. Every call may raise `SetupError` when the service cannot be reached or refuses us."""

    def __init__(self, settings: S3Settings, name: str | None = None) -> None:
        self._settings = settings
        self.name = name or settings.bucket
        self._session: Any = None

    async def ensure(self) -> None:
        """Create the bucket unless it is there."""
        async with self._client() as client:
            await self._ensure(client)

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        async with self._client(key) as client:
            return await self._exists(client, key)

    async def add(self, objects: Mapping[str, bytes]) -> None:
        """Write those objects that are not there, in a bucket made if need be.

        By one client for all of it: making one takes longer than all that it does here.
        """
        async with self._client() as client:
            await self._ensure(client)
            for key, data in objects.items():
                if not await self._exists(client, key):
                    await client.put_object(Bucket=self.name, Key=key, Body=data)

    async def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object."""
        async with self._client(key) as client:
            await client.put_object(Bucket=self.name, Key=key, Body=data, ContentType=content_type)

    async def get(self, key: str) -> bytes:
        """Read an object into memory."""
        async with self._client(key) as client:
            answer = await client.get_object(Bucket=self.name, Key=key)
            return await answer["Body"].read()

    async def get_at_most(self, key: str, max_bytes: int) -> bytes:
        """Read an object into memory, no more than its first `max_bytes`."""
        pieces: list[bytes] = []
        left_bytes = max_bytes
        async with self._client(key) as client:
            answer = await client.get_object(Bucket=self.name, Key=key)
            async for piece in answer["Body"].iter_chunks(_CHUNK_BYTES):
                pieces.append(piece[:left_bytes])
                left_bytes -= len(pieces[-1])
                if not left_bytes:
                    break
        return b"".join(pieces)

    async def folders(self, prefix: str) -> list[str]:
        """What the keys under `prefix` begin with, up to the next slash."""
        found: list[str] = []
        async with self._client(prefix) as client:
            pages = client.get_paginator("list_objects_v2")
            async for page in pages.paginate(Bucket=self.name, Prefix=prefix, Delimiter="/"):
                found += [each["Prefix"] for each in page.get("CommonPrefixes", ())]
        return found

    async def remove(self, prefix: str) -> int:
        """Remove every object whose key begins with `prefix`; returns how many."""
        removed = 0
        async with self._client(prefix) as client:
            pages = client.get_paginator("list_objects_v2")
            async for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                for each in page.get("Contents", ()):
                    await client.delete_object(Bucket=self.name, Key=each["Key"])
                    removed += 1
        return removed

    async def download(self, key: str, path: Path) -> None:
        """Read an object into a file, a piece at a time."""
        async with self._client(key) as client:
            answer = await client.get_object(Bucket=self.name, Key=key)
            with path.open("wb") as file:
                async for piece in answer["Body"].iter_chunks(_CHUNK_BYTES):
                    file.write(piece)

    async def stream(self, key: str, start_bytes: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes of an object from there on, a piece at a time."""
        async with self._client(key) as client:
            wanted: Any = {"Range": f"bytes={start_bytes}-"} if start_bytes else {}
            answer = await client.get_object(Bucket=self.name, Key=key, **wanted)
            async for piece in answer["Body"].iter_chunks(_CHUNK_BYTES):
                yield piece

    @asynccontextmanager
    async def writing(self, key: str) -> AsyncIterator[Upload]:
        """Write an object piece by piece: there when the block ends well, and not at all otherwise."""
        async with self._client(key) as client:
            upload = Upload(client, self.name, key)
            try:
                yield upload
            except BaseException:
                await upload.abort()
                raise
            await upload.complete()

    async def abort_uploads(self, key: str) -> None:
        """Remove what the dead have left of attempts to write this object."""
        async with self._client(key) as client:
            found = await client.list_multipart_uploads(Bucket=self.name, Prefix=key)
            for each in found.get("Uploads", ()):
                await client.abort_multipart_upload(
                    Bucket=self.name, Key=each["Key"], UploadId=each["UploadId"]
                )

    async def _ensure(self, client: "S3Client") -> None:
        try:
            await client.head_bucket(Bucket=self.name)
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in _ABSENT:
                raise
            await self._create(client)

    async def _exists(self, client: "S3Client", key: str) -> bool:
        try:
            await client.head_object(Bucket=self.name, Key=key)
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return False
            raise
        return True

    async def _create(self, client: "S3Client") -> None:
        region = self._settings.region
        try:
            if region == _DEFAULT_REGION:  # which may not be named
                await client.create_bucket(Bucket=self.name)
            else:
                # The literal types list today's regions; the setting is any string.
                where: Any = {"LocationConstraint": region}
                await client.create_bucket(Bucket=self.name, CreateBucketConfiguration=where)
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in _TAKEN:
                raise
            await client.head_bucket(Bucket=self.name)  # another deploy was faster, or it is not ours

    @asynccontextmanager
    async def _client(self, key: str = "") -> AsyncIterator["S3Client"]:
        try:
            import aioboto3  # noqa: PLC0415  # 30 MB that only deploys and downloads need
            from aiobotocore.config import AioConfig  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        except ModuleNotFoundError:
            raise SetupError("S3 needs aioboto3: install it with pip install 'headrace[s3]'") from None
        settings = self._settings
        secret = settings.secret_access_key
        config = AioConfig(
            s3={"addressing_style": "path"},  # embedded servers have no DNS name per bucket
            retries={"max_attempts": 3},  # a wrong endpoint is told soon
            connect_timeout=5,
            proxies={} if _is_on_this_machine(settings.endpoint_url) else None,
        )
        if self._session is None:
            # Kept for what it reads of S3's description: the first client takes 0.2 s, the next ones 0.01.
            self._session = aioboto3.Session()
        opened = self._session.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=None if secret is None else secret.get_secret_value(),
            config=config,
        )
        where = settings.endpoint_url or "AWS"
        try:
            async with opened as client:
                yield client
        except ClientError as error:
            told = error.response["Error"]
            url = f"s3://{self.name}/{key}"
            kind = NoSuchObject if told.get("Code") in _ABSENT else SetupError
            raise kind(f"S3 at {where}: {url}: {told.get('Code')}: {told.get('Message')}") from None
        except BotoCoreError as error:
            raise SetupError(f"S3 at {where} cannot be used: {error}") from None


def _is_on_this_machine(url: str | None) -> bool:
    return url is not None and urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}
