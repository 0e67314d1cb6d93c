"""Webhooks, as their receiver takes them."""

import time
from collections.abc import Mapping
from typing import Any

import orjson

from headrace.contracts.errors import InvalidRequest
from headrace.core.webhooks import verify


def unwrap_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, tolerance_s: float = 300.0
) -> dict[str, Any]:
    """The event of a delivery that is genuine and at most `tolerance_s` old.

    secret: `whsec_...`, of the endpoint or of the installation. body: the exact bytes that came.

    Raises:
        InvalidRequest: it is not genuine, or too old; the message says why. Answer it with 400.
    """
    verify(secret, {name.lower(): value for name, value in headers.items()}, body, time.time(), tolerance_s)
    try:
        event: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The delivery is no JSON: {error}") from None
    return event
