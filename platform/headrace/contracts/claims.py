"""The claim check: a result larger than a Kafka record lies in the bucket, and the final record says where.

The record's headers carry the reference; its value is a small JSON object that says the same to whoever reads
plain Kafka. An error never goes this way, so `http_status` and state are those of the result itself.
"""

import re
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from headrace.contracts import headers as h
from headrace.contracts.errors import InvalidRequest

PREFIX: Final = "claims/"
"""All that lies under it in the bucket is ours to write and, some day, to remove."""
OBJECT: Final = "headrace.result.reference"
"""Value of `object` in the pointer body; OpenAI's own bodies have `chat.completion` and the like there."""

_ID_DIGITS: Final = 32
_DAY: Final = re.compile(r"(?a:claims/(\d{4}-\d\d-\d\d)/)")
_MAX_RUN_CHARS: Final = 200
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_KEY: Final = re.compile(
    r"claims/[0-9-]{10}/[a-z0-9-]{1,249}/([0-9a-f]{32})-[0-9a-f]{32}-[A-Za-z0-9._-]{0,200}"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MESSAGE: Final = (
    "The result is larger than a Kafka record may be. Its exact bytes lie at dataref, for as long as results "
    "are kept; data_sha256 is their SHA-256."
)

POINTER_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Where a result lies that is larger than a Kafka record may be.",
    "properties": {
        "object": {"const": OBJECT},
        "dataref": {"type": "string", "pattern": "^s3://[^/]+/claims/", "description": "As ce_dataref."},
        "data_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "As ce_datasha256."},
        "data_bytes": {"type": "integer", "minimum": 0, "description": "As ce_datasize."},
        "message": {"type": "string", "description": "The same, for a person."},
    },
    "required": ["object", "dataref", "data_sha256", "data_bytes", "message"],
}


class Made(NamedTuple):
    """Which result it is: of which model, request and run."""

    slug: str
    request_id: str
    run: str


class Claim(NamedTuple):
    """Where a result lies, and what it is: `sha256` in hex, of exactly `size_bytes` bytes."""

    bucket: str
    key: str
    sha256: str
    size_bytes: int

    @property
    def url(self) -> str:
        """`s3://BUCKET/KEY`."""
        return f"s3://{self.bucket}/{self.key}"


def digest(body: bytes) -> str:
    """The hex digest that vouches for a body."""
    return sha256(body).hexdigest()


def claim(made: Made, bucket: str, body: bytes, now_s: float) -> Claim:
    """Where the result goes: by day for the purge, and by request so that no reply names another's.

    Other bytes go to another key, because callers may give two requests one id; the same bytes go to the same
    one, however often a run tries on one day.
    """
    day = datetime.fromtimestamp(now_s, UTC).date()
    vouched = digest(body)
    run = _UNSAFE.sub("-", made.run)[:_MAX_RUN_CHARS]
    name = f"{_tag(made.request_id)}-{vouched[:_ID_DIGITS]}-{run}"
    return Claim(bucket, f"{PREFIX}{day.isoformat()}/{made.slug}/{name}", vouched, len(body))


def pointer(claim: Claim) -> bytes:
    """The value of a final record whose result lies elsewhere."""
    return orjson.dumps(
        {
            "object": OBJECT,
            "dataref": claim.url,
            "data_sha256": claim.sha256,
            "data_bytes": claim.size_bytes,
            "message": _MESSAGE,
        }
    )


def write(claim: Claim) -> h.Headers:
    """Headers for `claim`."""
    return [
        (h.DATA_REF, claim.url.encode()),
        (h.DATA_SHA256, claim.sha256.encode()),
        (h.DATA_SIZE, str(claim.size_bytes).encode()),
    ]


def read(headers: dict[str, bytes], bucket: str) -> Claim | None:
    """The reference that a reply carries; None when its value is the result itself.

    Raises:
        InvalidRequest: it is not one that a worker of ours has written for this request, in this bucket.
    """
    url = headers.get(h.DATA_REF)
    if url is None:
        return None
    try:
        home, text = f"s3://{bucket}/", url.decode()
        where = text.removeprefix(home)
        named = _KEY.fullmatch(where)
        vouched, size_bytes = headers[h.DATA_SHA256].decode(), int(headers[h.DATA_SIZE])
        request_id = headers[h.CAUSATION_ID].decode()
    except (KeyError, ValueError) as error:
        raise InvalidRequest(f"The reply's reference cannot be read: {error!r}") from None
    if not text.startswith(home) or named is None:
        raise InvalidRequest(f"The reply refers to {text[:200]!r}, which is no result in bucket {bucket}")
    if named[1] != _tag(request_id):
        raise InvalidRequest(f"The reply refers to {text!r}, which is the result of another request")
    if not _SHA256.fullmatch(vouched) or size_bytes < 0:
        raise InvalidRequest("The reply's reference has no SHA-256 or no size")
    return Claim(bucket, where, vouched, size_bytes)


def check(claim: Claim, body: bytes) -> None:
    """Make sure that `body` is what the worker put there.

    Raises:
        InvalidRequest: it is not.
    """
    if len(body) != claim.size_bytes or digest(body) != claim.sha256:
        raise InvalidRequest(f"What lies at {claim.url} is not what the worker wrote there")


def folder_has_expired(folder: str, retention_s: float, now_s: float) -> bool:
    """Whether all in a day's folder (`claims/2026-01-31/`) is older than results are kept.

    A day more, because a record's own time may come after the upload by as long as Kafka was away. What is
    not named by us is left alone.
    """
    found = _DAY.fullmatch(folder)
    if found is None:
        return False
    try:
        ended = datetime.combine(date.fromisoformat(found[1]), datetime.min.time(), UTC) + timedelta(days=2)
    except ValueError:
        return False
    return ended.timestamp() + retention_s < now_s


def _tag(request_id: str) -> str:
    return sha256(request_id.encode()).hexdigest()[:_ID_DIGITS]
