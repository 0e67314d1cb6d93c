"""How a caller wants its answer, beyond the body: RFC 7240's `Prefer`, `Cancel-After`, `Idempotency-Key`."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from headrace.contracts.errors import InvalidRequest

_PREFER: Final = b"prefer"
_CANCEL_AFTER: Final = b"cancel-after"
_KEY: Final = b"idempotency-key"
_RESEND: Final = b"x-stainless-retry-count"

_DURATION: Final = re.compile(r"(?a:(\d{1,7})\s*(s|m|h|d)?)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, None: 1}
_MAX_KEY_CHARS: Final = 255
_KEY_TEXT: Final = re.compile(r"[\x20-\x7e]+")


class Terms(NamedTuple):
    """What the headers ask for.

    is_job: answer 202 and keep the result. wait_s: hold the caller so long first.
    cancel_after_s: give up then. key: of idempotency. resend: how often an SDK that counts has sent it
    before; None from clients that do not count.
    """

    is_job: bool = False
    wait_s: float | None = None
    cancel_after_s: float | None = None
    key: str | None = None
    resend: int | None = None


PLAIN: Final = Terms()


def of(headers: Mapping[bytes, bytes]) -> Terms:
    """The terms in a request's headers (lower case).

    Raises:
        InvalidRequest: one of them cannot be understood.
    """
    if headers.keys().isdisjoint(_ALL):
        return PLAIN
    is_job, wait_s = _preferences(headers.get(_PREFER, b""))
    return Terms(
        is_job,
        wait_s,
        _duration(headers.get(_CANCEL_AFTER)),
        _key(headers.get(_KEY)),
        _count(headers.get(_RESEND)),
    )


_ALL: Final = frozenset({_PREFER, _CANCEL_AFTER, _KEY, _RESEND})


def _preferences(header: bytes) -> tuple[bool, float | None]:
    """Preferences that are not known, or not well formed, are ignored, as RFC 7240 says."""
    is_job, wait_s = False, None
    for part in header.decode("latin-1").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "respond-async":
            is_job = True
        elif name == "wait" and value.isdecimal():
            is_job, wait_s = True, float(value[:6])
    return is_job, wait_s


def _duration(header: bytes | None) -> float | None:
    if header is None:
        return None
    found = _DURATION.fullmatch(header.decode("latin-1").strip())
    seconds = 0 if found is None else int(found[1]) * _SECONDS[found[2]]
    if seconds < 1:
        raise InvalidRequest(
            "Header Cancel-After must be a duration such as 90s, 5m or 1h", param="Cancel-After"
        )
    return float(seconds)


def _key(header: bytes | None) -> str | None:
    """The key, bare or as the draft has it: a quoted string of RFC 8941."""
    if header is None:
        return None
    text = header.decode("latin-1").strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not _KEY_TEXT.fullmatch(text) or len(text) > _MAX_KEY_CHARS:
        raise InvalidRequest(
            f"Header Idempotency-Key must have 1 to {_MAX_KEY_CHARS} printable ASCII characters",
            param="Idempotency-Key",
        )
    return text


def _count(header: bytes | None) -> int | None:
    return int(header) if header is not None and header.isdigit() and len(header) < 4 else None
