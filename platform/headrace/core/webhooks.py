"""Webhooks: who is told of what, how it is signed, and what follows an attempt. Pure.

Source: the Standard Webhooks specification (signatures, schedule, what statuses mean); OpenAI's webhook guide
(names and bodies of `response.*` and `batch.*`).
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple

import orjson

from headrace.contracts import ids
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import RESPONSES
from headrace.contracts.states import State
from headrace.core.archive import FinalResult

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # what secrets begin with
SECRET_BYTES: Final = 32

_STATES: Final = {State.EXPIRED: State.FAILED}
"""OpenAI has no `response.expired`."""
RESPONSE_EVENTS: Final = tuple(
    f"response.{name}" for name in ("completed", "failed", "cancelled", "incomplete")
)
BATCH_EVENTS: Final = tuple(f"batch.{name}" for name in ("completed", "failed", "expired", "cancelled"))
JOB_EVENTS: Final = tuple(
    f"job.{name}" for name in ("completed", "incomplete", "failed", "cancelled", "expired")
)
EVENTS: Final = (*BATCH_EVENTS, *RESPONSE_EVENTS, *JOB_EVENTS)

SCHEDULE_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Pauses after the first, second, … attempt; 75 hours in all."""
_GONE: Final = 410


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who wants to be told. events: names of `EVENTS`. old_secret: signs as well until `old_until_s`.

    `url` is empty for the one that stands for the URLs that requests name: it has their secret.
    """

    id: str
    tenant: str
    name: str
    url: str
    events: tuple[str, ...]
    secret: str
    created_at_s: float
    enabled: bool = True
    disabled_reason: str | None = None
    old_secret: str | None = None
    old_until_s: float | None = None

    def secrets(self, now_s: float) -> tuple[str, ...]:
        """Those that sign now, the newest first."""
        if self.old_secret is None or self.old_until_s is None or self.old_until_s <= now_s:
            return (self.secret,)
        return (self.secret, self.old_secret)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one URL. endpoint_id: None for a URL that a request named. next_at_s: when to try."""

    id: str
    tenant: str
    url: str
    type: str
    subject_id: str
    body: bytes
    created_at_s: float
    expires_at_s: float
    endpoint_id: str | None = None
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    next_at_s: float | None = None
    finished_at_s: float | None = None


class Attempt(NamedTuple):
    """What came of one attempt. http_status: None when there was no answer, `error` says why.

    retry_after_s: what the receiver asked for.
    """

    number: int
    at_s: float
    duration_ms: float
    http_status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None


class Next(NamedTuple):
    """What follows. disables: the endpoint wants nothing any more."""

    state: DeliveryState
    next_at_s: float | None = None
    disables: bool = False


def follow(attempt: Attempt, jitter: float) -> Next:
    """What follows an attempt. jitter: 0 to 1, spreads what failed together over a tenth of its pause."""
    status = attempt.http_status
    if status is not None and 200 <= status < 300:
        return Next(DeliveryState.DELIVERED)
    if status == _GONE or attempt.number > len(SCHEDULE_S):
        return Next(DeliveryState.FAILED, disables=status == _GONE)
    pause_s = SCHEDULE_S[attempt.number - 1] * (1.0 + 0.1 * jitter)
    if attempt.retry_after_s is not None:
        pause_s = min(max(pause_s, attempt.retry_after_s), SCHEDULE_S[-1])
    return Next(DeliveryState.PENDING, attempt.at_s + pause_s)


def told(result: FinalResult, endpoints: Iterable[Endpoint]) -> Iterator[Delivery]:
    """The deliveries that a job's end makes. endpoints: of its tenant."""
    if result.batch_id is not None:
        return
    if result.path == RESPONSES:
        kind, subject = "response", f"resp_{result.request_id.removeprefix(ids.PREFIX)}"
    else:
        kind, subject = "job", result.request_id
    state = _STATES.get(result.state, result.state) if kind == "response" else result.state
    about = About(result.tenant, f"{kind}.{state}", subject, result.created_at_s, result.expires_at_s)
    if result.webhook is not None:
        yield delivery(about, result.webhook, None)
    yield from subscribed(about, endpoints)


class About(NamedTuple):
    """An event: on whose account, what happened to whom and when. Times in Unix seconds."""

    tenant: str
    type: str
    subject_id: str
    at_s: float
    expires_at_s: float


def subscribed(about: About, endpoints: Iterable[Endpoint]) -> Iterator[Delivery]:
    """Deliveries to those endpoints that want it."""
    for endpoint in endpoints:
        wants = endpoint.enabled and endpoint.url and about.type in endpoint.events
        if wants and endpoint.tenant == about.tenant:
            yield delivery(about, endpoint.url, endpoint.id)


def delivery(about: About, url: str, endpoint_id: str | None, salt: str = "") -> Delivery:
    """A delivery whose id is the same however often it is made. `salt` tells tests of an endpoint apart."""
    parts = "\0".join((about.subject_id, about.type, endpoint_id or url, salt))
    name = f"evt_{sha256(parts.encode()).hexdigest()[:32]}"
    return Delivery(
        id=name,
        tenant=about.tenant,
        url=url,
        type=about.type,
        subject_id=about.subject_id,
        body=orjson.dumps(
            {
                "id": name,
                "object": "event",
                "created_at": int(about.at_s),
                "type": about.type,
                "data": {"id": about.subject_id},
            }
        ),
        created_at_s=about.at_s,
        expires_at_s=about.expires_at_s,
        endpoint_id=endpoint_id,
        next_at_s=about.at_s,
    )


def new_secret(entropy: bytes) -> str:
    """A signing secret, of `SECRET_BYTES` random bytes."""
    return SECRET_PREFIX + b64encode(entropy).decode()


def hint(secret: str) -> str:
    """Its end, by which its owner knows it again."""
    return f"…{secret[-4:]}"


def signed(delivery: Delivery, secrets: Sequence[str], now_s: float) -> dict[str, str]:
    """The headers of an attempt: id, time and a signature by each secret."""
    at = str(int(now_s))
    message = f"{delivery.id}.{at}.".encode() + delivery.body
    signatures = (f"v1,{b64encode(_mac(secret, message)).decode()}" for secret in secrets)
    return {
        "content-type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(signatures),
    }


def verify(
    secret: str, headers: dict[str, str], body: bytes, now_s: float, tolerance_s: float = 300.0
) -> None:
    """Make sure that a delivery is genuine and new. headers: by lower-case name.

    Raises:
        InvalidRequest: it is not, and the message says why.
    """
    try:
        name, at = headers["webhook-id"], headers["webhook-timestamp"]
        given = [each.partition(",") for each in headers["webhook-signature"].split()]
        age_s = abs(now_s - int(at))
    except (KeyError, ValueError):
        raise InvalidRequest(
            "The headers webhook-id, -timestamp and -signature are not as they must be"
        ) from None
    if age_s > tolerance_s:
        raise InvalidRequest(f"The delivery is {age_s:.0f} s old")
    wanted = b64encode(_mac(secret, f"{name}.{at}.".encode() + body)).decode()
    if not any(version == "v1" and hmac.compare_digest(mac, wanted) for version, _, mac in given):
        raise InvalidRequest("No signature fits the secret")


def _mac(secret: str, message: bytes) -> bytes:
    return hmac.digest(b64decode(secret.removeprefix(SECRET_PREFIX)), message, "sha256")
