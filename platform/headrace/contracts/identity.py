"""A gateway's word: a MAC over what a request says about itself, and over a cancel.

Topics are open to whoever may write them, so a header is a claim. Who shares the installation's secret can
tell which claims are a gateway's. The MAC covers tenant, id, model and deadline, not the body or the reply
address: whoever can read a request topic can also send a copy of what lies there.
"""

import hashlib
import hmac
from hashlib import blake2b
from typing import Final, NamedTuple

from headrace.contracts import headers as h

_MAC_BYTES: Final = 16
# Neither kind of MAC may pass for the other, nor for the one inside an id, which has no person.
_REQUEST: Final = b"headrace request"
_CANCEL: Final = b"headrace cancel"


class Claims(NamedTuple):
    """What a signature of a request covers: the exact bytes of its headers, empty when absent."""

    tenant: bytes
    id: bytes
    model_slug: bytes
    expiry: bytes


def signing_key(secret: str) -> bytes:
    """The key that signs ids and requests, from the installation's secret."""
    # BLAKE2b takes keys of up to 64 bytes; the secret may be longer.
    return hashlib.sha256(secret.encode()).digest()


def sign(key: bytes, claims: Claims) -> bytes:
    """The signature of a request, as its header holds it."""
    tenant, request_id, model_slug, expiry = claims
    # The lengths first: no byte can move from one field to the next unseen.
    framed = b"%d %d %d %d " % (len(tenant), len(request_id), len(model_slug), len(expiry))
    return _mac(key, _REQUEST, framed + tenant + request_id + model_slug + expiry)


def claims_of(headers: dict[str, bytes], model_slug: str) -> Claims:
    """What a request on this model's topics claims."""
    return Claims(
        headers.get(h.TENANT_ID, b""),
        headers.get(h.ID, b""),
        model_slug.encode(),
        headers.get(h.EXPIRY_TIME, b""),
    )


def is_genuine(key: bytes, headers: dict[str, bytes], model_slug: str) -> bool:
    """Whether the request's signature is that of a holder of `key`, for this model."""
    signature = headers.get(h.SIGNATURE)
    if not signature:
        return False
    return hmac.compare_digest(signature, sign(key, claims_of(headers, model_slug)))


def sign_cancel(key: bytes, request_id: bytes) -> bytes:
    """The signature of a cancel."""
    return _mac(key, _CANCEL, request_id)


def is_genuine_cancel(key: bytes, headers: dict[str, bytes], request_id: str) -> bool:
    """Whether the cancel of this request was made by a holder of `key`."""
    signature = headers.get(h.SIGNATURE)
    if not signature:
        return False
    return hmac.compare_digest(signature, sign_cancel(key, request_id.encode()))


def _mac(key: bytes, person: bytes, message: bytes) -> bytes:
    return blake2b(message, digest_size=_MAC_BYTES, key=key, person=person).hexdigest().encode()
