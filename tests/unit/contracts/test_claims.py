"""References to large results: there and back, and none that a worker of ours has not written."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from headrace.contracts import claims
from headrace.contracts import headers as h
from headrace.contracts.claims import Claim, Made
from headrace.contracts.errors import InvalidRequest

MADE = Made("org--sname-1--d5", "r1", "12:w-1")
NOW_S = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()
BODY = b'{"id":"x"}'
CLAIM = claims.claim(MADE, "b", BODY, NOW_S)


def told(claim=CLAIM, request_id="r1", **changes):
    headers = {**h.as_dict(claims.write(claim)), h.CAUSATION_ID: request_id.encode()}
    return {name: value for name, value in (headers | changes).items() if value is not None}


@given(request_id=st.text(max_size=256), run=st.text(max_size=400), body=st.binary(max_size=99))
def test_what_is_written_is_read(request_id, run, body):
    claim = claims.claim(Made("echo", request_id, run), "b", body, NOW_S)
    assert claims.read(told(claim, request_id), "b") == claim
    claims.check(claim, body)
    assert claim.url.startswith("s3://b/claims/2026-01-31/echo/")
    assert len(claim.key) < 1024, "the longest key of S3"


def test_no_reference_is_none():
    assert claims.read({h.CAUSATION_ID: b"r1"}, "b") is None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/claims/x",
        "s3://other/" + CLAIM.key,
        "s3://b/functions/0123456789ab.zip",
        "s3://b/" + CLAIM.key.replace("org--sname", "../../functions"),
        "s3://b/../b/" + CLAIM.key,
        "s3://b/" + CLAIM.key + "/..",
        "s3://b/" + CLAIM.key + "?versionId=1",
        "s3://b/",
        CLAIM.key,
        "",
    ],
)
def test_nothing_but_a_claim_in_the_bucket_is_read(url):
    with pytest.raises(InvalidRequest, match="no result in bucket b"):
        claims.read(told(**{h.DATA_REF: url.encode()}), "b")


def test_a_reply_cannot_name_the_result_of_another_request():
    with pytest.raises(InvalidRequest, match="another request"):
        claims.read(told(request_id="r2"), "b")


@pytest.mark.parametrize(
    "changes",
    [
        {h.DATA_SHA256: None},
        {h.DATA_SHA256: b"abc"},
        {h.DATA_SIZE: None},
        {h.DATA_SIZE: b"-1"},
        {h.DATA_SIZE: b"many"},
        {h.DATA_REF: b"\xff"},
    ],
)
def test_a_reference_that_vouches_for_nothing_is_refused(changes):
    with pytest.raises(InvalidRequest):
        claims.read(told(**changes), "b")


@pytest.mark.parametrize("body", [b"", BODY[:-1], BODY + b" ", BODY.replace(b"x", b"y")])
def test_other_bytes_are_noticed(body):
    with pytest.raises(InvalidRequest, match="not what the worker wrote"):
        claims.check(CLAIM, body)


def test_two_requests_of_one_id_do_not_overwrite_each_other():
    other = claims.claim(MADE, "b", b'{"id":"y"}', NOW_S)
    assert other.key != CLAIM.key
    assert claims.claim(MADE, "b", BODY, NOW_S).key == CLAIM.key


def test_the_pointer_says_what_the_headers_say_and_fits_its_schema():
    said = orjson.loads(claims.pointer(CLAIM))
    Draft202012Validator(claims.POINTER_SCHEMA).validate(said)
    assert Claim("b", said["dataref"][len("s3://b/") :], said["data_sha256"], said["data_bytes"]) == CLAIM


@pytest.mark.parametrize(
    ("folder", "hours_later", "expired"),
    [
        ("claims/2026-01-31/", 0, False),
        ("claims/2026-01-31/", 47, False),  # a day of retention, a day more
        ("claims/2026-01-31/", 49, True),
        ("claims/2026-02-01/", 49, False),
        ("claims/2025-12-31/", 0, True),
        ("claims/2025-02-31/", 0, False),
        ("claims/", 999, False),
        ("claims/kept/", 999, False),
        ("functions/2025-01-31/", 999, False),
    ],
)
def test_days_expire_a_day_after_the_results(folder, hours_later, expired):
    now_s = NOW_S + 1 + hours_later * 3600
    assert claims.folder_has_expired(folder, 86_400, now_s) is expired
