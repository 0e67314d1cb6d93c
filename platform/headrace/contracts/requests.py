"""The request record: what a caller puts on a model's topic.

The value is the exact OpenAI JSON body, so a curl body pasted into kcat is a valid request. Every
header is optional.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from headrace.contracts import headers as h
from headrace.contracts.errors import InvalidRequest

TYPE: Final = "headrace.inference.request.v1"
CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
RESPONSES: Final = "/v1/responses"
"""Whatever serves chats serves it: workers translate."""
PREDICTIONS: Final = "/v1/predictions"
EMBEDDINGS: Final = "/v1/embeddings"
INFER: Final = "/v2/infer"
"""Of the Open Inference Protocol. Over HTTP the model stands in the path: `INFER_URL`."""
INFER_URL: Final = "/v2/models/{model}/infer"
TEXT_PATHS: Final = (CHAT, COMPLETIONS)
PATHS: Final = (*TEXT_PATHS, RESPONSES, PREDICTIONS, EMBEDDINGS, INFER)
"""What `ce_apipath` may say."""
URLS: Final = (*(path for path in PATHS if path != INFER), INFER_URL)
"""The same over HTTP."""
MAX_ID_CHARS: Final = 256
MAX_URL_CHARS: Final = 2048


class ReplyAddress(NamedTuple):
    """Where the answer goes; `partition` None lets the producer choose."""

    topic: str
    partition: int | None = None


class RequestHead(NamedTuple):
    """All that a request says about itself in its headers. A tuple, because one is made for each request.

    path: empty means the first that its model serves. accept: media types that the caller takes, as in HTTP.
    webhook: a URL to tell how it ended. durable: the answer is kept, although somebody waits for it.
    """

    id: str
    source: str
    path: str = ""
    reply: ReplyAddress | None = None
    correlation: tuple[h.Header, ...] = ()
    """Correlation headers as they came, to be echoed byte for byte."""
    expires_at_s: float | None = None
    tenant: str | None = None
    batch_id: str | None = None
    attempt: int = 1
    accept: str | None = None
    webhook: str | None = None
    durable: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether its answer goes to `results`, so that it is a job."""
        return self.reply is None or self.durable


def write(head: RequestHead) -> h.Headers:
    """Headers for `head`; optional ones only where they say something."""
    out: h.Headers = [
        (h.SPEC_VERSION, b"1.0"),
        (h.ID, head.id.encode()),
        (h.SOURCE, head.source.encode()),
        (h.TYPE, TYPE.encode()),
        (h.CONTENT_TYPE, h.JSON),
    ]
    if head.path:
        out.append((h.API_PATH, head.path.encode()))
    if head.reply is not None:
        out.append((h.REPLY_TOPIC, head.reply.topic.encode()))
        if head.reply.partition is not None:
            out.append((h.REPLY_PARTITION, str(head.reply.partition).encode()))
    if head.expires_at_s is not None:
        out.append(expiry(head.expires_at_s))
    for name, said in (
        (h.TENANT_ID, head.tenant),
        (h.BATCH_ID, head.batch_id),
        (h.ACCEPT, head.accept),
        (h.WEBHOOK, head.webhook),
    ):
        if said is not None:
            out.append((name, said.encode()))
    if head.durable:
        out.append((h.DURABLE, b"true"))
    if head.attempt != 1:
        out.append((h.ATTEMPT, str(head.attempt).encode()))
    out.extend(head.correlation)
    return out


def expiry(expires_at_s: float) -> h.Header:
    """The header that says until when an answer is worth anything."""
    whole_s = int(expires_at_s)
    return h.EXPIRY_TIME, b"%b.%03dZ" % (_until_second(whole_s), int((expires_at_s - whole_s) * 1000))


@lru_cache(maxsize=256)
def _until_second(at_s: int) -> bytes:
    """Requests of one second share all but the fraction: writing the date costs as much as the MAC."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


_RARE: Final = frozenset(
    {
        *(h.ID, h.SOURCE, h.API_PATH, h.EXPIRY_TIME, h.TENANT_ID, h.BATCH_ID, h.ATTEMPT, h.ACCEPT),
        *(h.WEBHOOK, h.DURABLE),
    },
)
"""Many a direct publisher sends none of them."""


def read(headers: dict[str, bytes], *, default_id: str) -> RequestHead:
    """Read a request's headers. `default_id` (topic-partition-offset) names a request without `ce_id`.

    Raises:
        InvalidRequest: a header cannot be understood; `param` names it. `address` still tells where
            to say so.
    """
    if _RARE.isdisjoint(headers):
        return RequestHead(default_id, "unknown", "", address(headers), correlation(headers))
    return RequestHead(
        id=_text(headers, h.ID, MAX_ID_CHARS) or default_id,
        source=_text(headers, h.SOURCE) or "unknown",
        path=_path(headers),
        reply=address(headers),
        correlation=correlation(headers),
        expires_at_s=time_of(headers, h.EXPIRY_TIME),
        tenant=_text(headers, h.TENANT_ID),
        batch_id=_text(headers, h.BATCH_ID),
        attempt=_number(headers, h.ATTEMPT) or 1,
        accept=_text(headers, h.ACCEPT),
        webhook=_text(headers, h.WEBHOOK, MAX_URL_CHARS),
        durable=headers.get(h.DURABLE) == b"true",
    )


def salvaged(headers: dict[str, bytes], *, default_id: str) -> RequestHead:
    """What can be read of headers that `read` refuses, so that the caller still hears of it."""
    try:
        reply = address(headers)
    except InvalidRequest:
        reply = None
    return RequestHead(default_id, "unknown", reply=reply, correlation=correlation(headers))


def address(headers: dict[str, bytes]) -> ReplyAddress | None:
    """The reply address under any of the names in use, or None.

    Raises:
        InvalidRequest: the topic is not UTF-8 or the partition is not a number.
    """
    topic = h.first(headers, h.REPLY_TOPIC_NAMES)
    if topic is None:
        return None
    return ReplyAddress(_decoded(h.REPLY_TOPIC, topic), _partition(headers))


def correlation(headers: dict[str, bytes]) -> tuple[h.Header, ...]:
    """Every correlation header that came."""
    return tuple([(name, headers[name]) for name in h.CORRELATION_NAMES if name in headers])


def _partition(headers: dict[str, bytes]) -> int | None:
    value = h.first(headers, h.REPLY_PARTITION_NAMES)
    if value is None:
        return None
    if value.isdigit() and len(value) <= 6:
        return int(value)
    # Spring and SmallRye send four big-endian bytes. "\x00\x00\x00\x07" is not made of ASCII digits;
    # a number that is (0x30303030 and up) would be a partition over eight hundred million.
    if len(value) == 4:
        return int.from_bytes(value)
    raise InvalidRequest(
        f"Header {h.REPLY_PARTITION} must be a partition number in decimal digits or four bytes",
        param=h.REPLY_PARTITION,
    )


def _path(headers: dict[str, bytes]) -> str:
    path = _text(headers, h.API_PATH)
    if path is None:
        return ""
    if path not in PATHS:
        raise InvalidRequest(
            f"Header {h.API_PATH} is {path!r}; it must be one of {', '.join(PATHS)}",
            param=h.API_PATH,
        )
    return path


def _text(headers: dict[str, bytes], name: str, max_chars: int = 1024) -> str | None:
    value = headers.get(name)
    if not value:
        return None
    text = _decoded(name, value)
    if len(text) > max_chars:
        raise InvalidRequest(f"Header {name} is over {max_chars} characters", param=name)
    return text


def _decoded(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"Header {name} is not UTF-8 text", param=name) from None


def _number(headers: dict[str, bytes], name: str) -> int | None:
    value = headers.get(name)
    if not value:
        return None
    if not value.isdigit() or len(value) > 9:
        raise InvalidRequest(f"Header {name} must be a whole number", param=name)
    return int(value)


def time_of(headers: dict[str, bytes], name: str) -> float | None:
    """The time in a header, in Unix seconds; None when it is not there.

    Raises:
        InvalidRequest: it is not an RFC 3339 time.
    """
    text = _text(headers, name, 64)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"Header {name} must be an RFC 3339 time such as 2026-01-31T12:00:00Z", param=name
        ) from None
    if moment.tzinfo is None:
        raise InvalidRequest(f"Header {name} needs a time zone, for example a final Z", param=name)
    return moment.timestamp()
