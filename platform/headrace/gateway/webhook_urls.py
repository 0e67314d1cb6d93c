"""The URL at which a request wants to be told: in a header or, for OpenAI's own clients, in `metadata`."""

from collections.abc import Mapping
from typing import Final

import orjson

from headrace.contracts.errors import InvalidRequest
from headrace.core.addresses import Rules, target

HEADER: Final = b"headrace-webhook"
KEY: Final = "completion_webhook"


def wanted(headers: Mapping[bytes, bytes], body: bytes, rules: Rules) -> bytes | None:
    """The URL; None when nobody is to be told.

    Raises:
        InvalidRequest: it is none that we call.
    """
    url, param = headers.get(HEADER, b"").decode("latin-1"), "Headrace-Webhook"
    if not url and KEY.encode() in body:
        url, param = _in_metadata(body), f"metadata.{KEY}"
    if not url:
        return None
    try:
        target(url, rules)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=param) from None
    return url.encode()


def _in_metadata(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""  # the check of the body says it better
    metadata = document.get("metadata") if isinstance(document, dict) else None
    found = metadata.get(KEY) if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else ""
