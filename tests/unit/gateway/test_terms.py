"""What callers may ask for by header."""

import pytest

from headrace.contracts.errors import InvalidRequest
from headrace.gateway.terms import PLAIN, Terms, of


@pytest.mark.parametrize(
    ("prefer", "is_job", "wait_s"),
    [
        (b"respond-async", True, None),
        (b"Respond-Async; foo=bar", True, None),
        (b"respond-async, wait=10", True, 10.0),
        (b"wait=3", True, 3.0),
        (b'wait="3"', True, 3.0),
        (b"wait=0", True, 0.0),
        (b"handling=lenient", False, None),
        (b"wait=soon", False, None),
        (b"wait", False, None),
        (b"", False, None),
        (b"\xff\xfe", False, None),
    ],
)
def test_preferences(prefer: bytes, is_job: bool, wait_s: float | None) -> None:
    assert of({b"prefer": prefer}) == Terms(is_job=is_job, wait_s=wait_s)


def test_most_requests_ask_for_nothing() -> None:
    assert of({b"content-type": b"application/json"}) is PLAIN


@pytest.mark.parametrize(
    ("text", "seconds"), [(b"90", 90), (b"90s", 90), (b" 5 m ", 300), (b"1h", 3600), (b"2d", 172_800)]
)
def test_durations(text: bytes, seconds: float) -> None:
    assert of({b"cancel-after": text}).cancel_after_s == seconds


@pytest.mark.parametrize("text", [b"", b"soon", b"0", b"-1", b"1.5h", b"1w", b"99999999"])
def test_what_is_no_duration(text: bytes) -> None:
    with pytest.raises(InvalidRequest) as told:
        of({b"cancel-after": text})
    assert told.value.param == "Cancel-After"


@pytest.mark.parametrize(
    ("text", "key"),
    [(b"abc", "abc"), (b'"abc"', "abc"), (b'"a\\"b\\\\c"', 'a"b\\c'), (b"a b", "a b"), (b'"', '"')],
)
def test_keys_bare_and_quoted(text: bytes, key: str) -> None:
    assert of({b"idempotency-key": text}).key == key


@pytest.mark.parametrize("text", [b"", b'""', b"x" * 256, b"\xc3\xa9", b"a\tb"])
def test_what_is_no_key(text: bytes) -> None:
    with pytest.raises(InvalidRequest) as told:
        of({b"idempotency-key": text})
    assert told.value.param == "Idempotency-Key"


def test_who_counts_its_sendings() -> None:
    assert of({b"x-stainless-retry-count": b"0"}).resend == 0
    assert of({b"x-stainless-retry-count": b"2"}).resend == 2
    assert of({b"x-stainless-retry-count": b"many"}).resend is None
