"""One object that is written piece by piece, by S3's multipart upload once it is large enough for one."""

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

PART_BYTES: Final = 5 << 20
"""S3 takes 10,000 parts, none but the last smaller than this."""


class Upload:
    """Holds one part in memory at most."""

    def __init__(self, client: "S3Client", bucket: str, key: str) -> None:
        self._client = client
        self._where: Any = {"Bucket": bucket, "Key": key}
        self._pending = bytearray()
        self._upload_id: str | None = None
        self._parts: list[Any] = []
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of all that was written."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Write on."""
        self._digest.update(data)
        self.size_bytes += len(data)
        self._pending += data
        while len(self._pending) >= PART_BYTES:
            part = bytes(self._pending[:PART_BYTES])
            del self._pending[:PART_BYTES]
            await self._send(part)

    async def complete(self) -> None:
        """The object is there when it returns."""
        rest = bytes(self._pending)
        if self._upload_id is None:
            await self._client.put_object(**self._where, Body=rest)
            return
        if rest:
            await self._send(rest)
        parts: Any = {"Parts": self._parts}
        await self._client.complete_multipart_upload(
            **self._where, UploadId=self._upload_id, MultipartUpload=parts
        )

    async def abort(self) -> None:
        """Leave nothing."""
        if self._upload_id is not None:
            await asyncio.shield(self._client.abort_multipart_upload(**self._where, UploadId=self._upload_id))

    async def _send(self, part: bytes) -> None:
        if self._upload_id is None:
            made = await self._client.create_multipart_upload(**self._where)
            self._upload_id = made["UploadId"]
        number = len(self._parts) + 1
        sent = await self._client.upload_part(
            **self._where, UploadId=self._upload_id, PartNumber=number, Body=part
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})
