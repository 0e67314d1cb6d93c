"""Ids that describe themselves, and cannot be made or changed without the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts import ids
from headrace.contracts.ids import RequestId
from headrace.contracts.topics import LANES

_KEY = b"k" * 32
_ALPHABET = "0123456789abcdef"
_whats = st.builds(
    RequestId,
    made_at_ms=st.integers(0, 2**48 - 1),
    model_tag=st.binary(min_size=5, max_size=5),
    lane=st.sampled_from(LANES),
    partition=st.integers(0, 0x3FFF),
)
_entropy = st.binary(min_size=ids.RANDOM_BYTES, max_size=ids.RANDOM_BYTES)


@given(what=_whats, entropy=_entropy)
def test_an_id_says_what_it_was_made_of(what: RequestId, entropy: bytes) -> None:
    text = ids.mint(_KEY, what, entropy)
    assert len(text) == 54
    assert ids.read(_KEY, text) == what


@given(what=_whats, entropy=_entropy, place=st.integers(0, 49), char=st.sampled_from(_ALPHABET))
def test_a_changed_id_is_nobodys(what: RequestId, entropy: bytes, place: int, char: str) -> None:
    text = ids.mint(_KEY, what, entropy)
    at = len(ids.PREFIX) + place
    changed = text[:at] + char + text[at + 1 :]
    assert ids.read(_KEY, changed) == (what if changed == text else None)


@given(what=_whats, entropy=_entropy)
def test_another_key_reads_nothing(what: RequestId, entropy: bytes) -> None:
    assert ids.read(b"another key", ids.mint(_KEY, what, entropy)) is None


@given(text=st.text(max_size=60) | st.text(_ALPHABET, min_size=50, max_size=50).map(lambda t: f"req_{t}"))
def test_any_other_text_is_unknown(text: str) -> None:
    assert ids.read(_KEY, text) is None


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t[4:], lambda t: t + "a", lambda t: t[:10] + " " + t[11:]]
)
def test_one_id_has_one_spelling(change: object) -> None:
    text = ids.mint(_KEY, RequestId(1, ids.model_tag("chat"), LANES[0], 3), b"12345")
    assert callable(change)
    assert ids.read(_KEY, change(text)) is None


def test_a_partition_beyond_what_fits_is_the_last_that_does() -> None:
    text = ids.mint(_KEY, RequestId(1, ids.model_tag("chat"), LANES[2], 99_999), b"12345")
    found = ids.read(_KEY, text)
    assert found is not None
    assert (found.partition, found.lane) == (0x3FFF, LANES[2])
