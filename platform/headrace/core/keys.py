"""API keys: how they are made, what is kept of them, and whether one opens a door. Pure.

A key is `hr_` and 43 characters, 32 random bytes. Only its SHA-256 is kept: a random key needs no slow hash,
and nobody who reads the database can use what is there.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from headrace.contracts.errors import InsufficientScope, InvalidApiKey, SetupError
from headrace.core.limits import TenantLimits

ENTROPY_BYTES: Final = 32
SHOWN_CHARS: Final = 11
"""Of a key, for its owner to know it again: `hr_` and eight of 43, which leaves 208 bits unknown."""

_PREFIX: Final = "hr_"
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Scope(StrEnum):
    """What a key may be for."""

    INFERENCE = "inference"
    JOBS = "jobs"
    FILES = "files"
    BATCHES = "batches"
    WEBHOOKS = "webhooks"
    ALL = "*"

    __hash__ = str.__hash__  # Enum's own is Python: a microsecond for each request


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key. Times are Unix seconds.

    prefix: its beginning. limits: its own, which then hold for it alone; None: it is counted with its tenant.
    """

    id: str
    tenant: str
    name: str
    prefix: str
    sha256: str
    scopes: frozenset[Scope]
    created_at_s: float
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    limits: TenantLimits | None = None

    def state(self, now_s: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at_s is not None:
            return "revoked"
        is_over = self.expires_at_s is not None and self.expires_at_s <= now_s
        return "expired" if is_over else "active"


def text_of(entropy: bytes) -> str:
    """The key that these 32 random bytes make."""
    return _PREFIX + urlsafe_b64encode(entropy).rstrip(b"=").decode()


def digest(text: bytes) -> str:
    """What is kept in place of a key."""
    return hashlib.sha256(text).hexdigest()


def check(key: ApiKey | None, scope: Scope | None, now_s: float) -> ApiKey:
    """The key, if it may do what `scope` names; None: what every key may do.

    Raises:
        InvalidApiKey: it is unknown, expired or revoked.
        InsufficientScope: it is for other things.
    """
    if key is None:
        raise InvalidApiKey("This API key is not known: check it, or make one by `headrace keys create`")
    if key.revoked_at_s is not None or key.expires_at_s is not None:
        state = key.state(now_s)
        if state != "active":
            raise InvalidApiKey(f"The API key {key.prefix}… is {state}: use another one")
    if scope is None or scope in key.scopes or Scope.ALL in key.scopes:
        return key
    has = ", ".join(sorted(key.scopes))
    needed = "every scope" if scope is Scope.ALL else f"scope '{scope}'"
    raise InsufficientScope(f"The API key {key.prefix}… has the scopes {has}; this needs {needed}")


def scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    """The scopes of these names.

    Raises:
        SetupError: there is no such scope, or none is named.
    """
    try:
        found = frozenset(Scope(name.strip()) for name in names if name.strip())
    except ValueError as error:
        raise SetupError(f"{error}: scopes are {', '.join(Scope)}") from None
    if not found:
        raise SetupError(f"A key needs a scope: one or more of {', '.join(Scope)}")
    return found


def duration_s(text: str) -> float:
    """Seconds of a duration such as `90m`, `12h`, `30d` or `2w`.

    Raises:
        SetupError: it is none, or none that lasts.
    """
    match = re.fullmatch(r"([1-9]\d{0,8})([smhdw])", text.strip())
    if match is None:
        raise SetupError(f"'{text}' is no duration: write a number and s, m, h, d or w, such as 30d")
    return float(int(match[1]) * _UNITS_S[match[2]])


def row_of(key: ApiKey) -> dict[str, Any]:
    """A key as its table has it."""
    limits = key.limits
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "prefix": key.prefix,
        "sha256": key.sha256,
        "scopes_json": orjson.dumps(sorted(key.scopes)).decode(),
        "created_at_s": key.created_at_s,
        "expires_at_s": key.expires_at_s,
        "revoked_at_s": key.revoked_at_s,
        "limits_json": None if limits is None else orjson.dumps(limits.given()).decode(),
    }


def of_row(row: Mapping[str, Any]) -> ApiKey:
    """A key as it was kept. A scope that this release does not know gives nothing."""
    known = {str(scope) for scope in Scope}
    limits = row["limits_json"]
    return ApiKey(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        prefix=row["prefix"],
        sha256=row["sha256"],
        scopes=frozenset(Scope(name) for name in orjson.loads(row["scopes_json"]) if name in known),
        created_at_s=row["created_at_s"],
        expires_at_s=row["expires_at_s"],
        revoked_at_s=row["revoked_at_s"],
        limits=None if limits is None else TenantLimits.of(orjson.loads(limits)),
    )
