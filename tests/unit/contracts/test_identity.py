"""Signatures: what they cover, and that nothing else passes for one."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.contracts import headers as h
from headrace.contracts import identity, ids
from headrace.contracts.identity import Claims, is_genuine, is_genuine_cancel, sign, sign_cancel, signing_key
from headrace.contracts.topics import Lane

KEY = signing_key("a secret of sixteen and more")
HEADERS = {
    h.TENANT_ID: b"acme",
    h.ID: b"req_1",
    h.EXPIRY_TIME: b"2030-01-01T00:00:00+00:00",
    "other": b"anything",
}


def signed(headers: dict[str, bytes], slug: str = "chat", key: bytes = KEY) -> dict[str, bytes]:
    return headers | {h.SIGNATURE: sign(key, identity.claims_of(headers, slug))}


def test_what_is_signed_is_genuine_and_hex() -> None:
    headers = signed(HEADERS)
    assert is_genuine(KEY, headers, "chat")
    assert len(bytes.fromhex(headers[h.SIGNATURE].decode())) == 16


@pytest.mark.parametrize(
    "change",
    [
        {h.TENANT_ID: b"other"},
        {h.ID: b"req_2"},
        {h.EXPIRY_TIME: b"2030-01-01T00:00:00Z"},  # the same moment, other bytes
        {h.SIGNATURE: b""},
        {h.SIGNATURE: b"\xff" * 32},
    ],
)
def test_a_change_is_seen(change: dict[str, bytes]) -> None:
    assert not is_genuine(KEY, signed(HEADERS) | change, "chat")


@pytest.mark.parametrize("name", [h.TENANT_ID, h.ID, h.EXPIRY_TIME, h.SIGNATURE])
def test_what_is_left_out_is_seen(name: str) -> None:
    headers = signed(HEADERS)
    del headers[name]
    assert not is_genuine(KEY, headers, "chat")


def test_another_model_and_another_key_are_seen() -> None:
    headers = signed(HEADERS)
    assert not is_genuine(KEY, headers, "chat2")
    assert not is_genuine(signing_key("another secret of enough"), headers, "chat")


def test_headers_that_are_not_covered_may_change() -> None:
    assert is_genuine(KEY, signed(HEADERS) | {"other": b"changed", h.ATTEMPT: b"2"}, "chat")


_claims = st.builds(Claims, *[st.binary(max_size=6)] * 4)


@given(one=_claims, other=_claims)
def test_bytes_cannot_move_between_fields(one: Claims, other: Claims) -> None:
    assume(one != other)
    assert sign(KEY, one) != sign(KEY, other)


@given(tenant=st.binary(max_size=5), rest=st.binary(min_size=1, max_size=5))
def test_a_tenants_last_bytes_are_not_the_ids_first(tenant: bytes, rest: bytes) -> None:
    assert sign(KEY, Claims(tenant + rest, b"", b"m", b"")) != sign(KEY, Claims(tenant, rest, b"m", b""))


def test_a_cancel_is_signed_for_its_request_only() -> None:
    headers = {h.SIGNATURE: sign_cancel(KEY, b"req_1")}
    assert is_genuine_cancel(KEY, headers, "req_1")
    assert not is_genuine_cancel(KEY, headers, "req_2")
    assert not is_genuine_cancel(b"another key", headers, "req_1")
    assert not is_genuine_cancel(KEY, {}, "req_1")


def test_one_kind_of_mac_does_not_pass_for_another() -> None:
    claims = Claims(b"", b"req_1", b"chat", b"")
    framed = b"0 5 4 0 req_1chat"
    assert sign(KEY, claims) != sign_cancel(KEY, framed)
    minted = ids.mint(KEY, ids.RequestId(1, b"12345", Lane.DEFAULT, 0), b"12345")
    payload, mac = bytes.fromhex(minted[4:])[:18], bytes.fromhex(minted[4:])[18:]
    assert not sign_cancel(KEY, payload).startswith(mac.hex().encode())


def test_the_key_is_the_same_for_the_same_secret_and_fits_the_mac() -> None:
    assert signing_key("x" * 500) == signing_key("x" * 500) != signing_key("x" * 499)
    assert len(signing_key("x" * 500)) == 32
