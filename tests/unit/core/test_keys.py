"""API keys: made, kept, checked."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.errors import InsufficientScope, InvalidApiKey, SetupError
from headrace.core import keys
from headrace.core.keys import ApiKey, Scope
from headrace.core.limits import TenantLimits


def key(**more: object) -> ApiKey:
    """A key that is right."""
    told = {"id": "key_1", "tenant": "a", "name": "n", "prefix": "hr_abcdefgh", "sha256": "0" * 64}
    return ApiKey(**{**told, "scopes": frozenset({Scope.ALL}), "created_at_s": 1.0, **more})  # type: ignore[arg-type]


@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_43_characters_that_no_url_changes(entropy: bytes) -> None:
    text = keys.text_of(entropy)
    assert re.fullmatch(r"hr_[A-Za-z0-9_-]{43}", text)
    assert keys.digest(text.encode()) == hashlib.sha256(text.encode()).hexdigest()


def test_an_unknown_key_opens_nothing() -> None:
    with pytest.raises(InvalidApiKey, match="not known"):
        keys.check(None, None, 0.0)


def test_a_key_ends_at_its_second() -> None:
    ending = key(expires_at_s=100.0)
    assert keys.check(ending, Scope.JOBS, 99.9) is ending
    with pytest.raises(InvalidApiKey, match="is expired"):
        keys.check(ending, Scope.JOBS, 100.0)


def test_a_revoked_key_opens_nothing_and_says_so_before_that_it_has_expired() -> None:
    with pytest.raises(InvalidApiKey, match="is revoked"):
        keys.check(key(revoked_at_s=5.0, expires_at_s=3.0), None, 10.0)


def test_scopes() -> None:
    some = key(scopes=frozenset({Scope.JOBS, Scope.FILES}))
    for needed in (Scope.JOBS, Scope.FILES, None):
        assert keys.check(some, needed, 0.0) is some
    with pytest.raises(InsufficientScope, match="has the scopes files, jobs; this needs scope 'inference'"):
        keys.check(some, Scope.INFERENCE, 0.0)
    with pytest.raises(InsufficientScope, match="every scope"):
        keys.check(some, Scope.ALL, 0.0)
    for needed in Scope:
        assert keys.check(key(), needed, 0.0)


def test_names_of_scopes() -> None:
    assert keys.scopes_of(["inference", " jobs"]) == {Scope.INFERENCE, Scope.JOBS}
    for wrong in (["inferense"], [""], []):
        with pytest.raises(SetupError, match="inference, jobs, files"):
            keys.scopes_of(wrong)


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("12h", 43_200), ("2w", 1_209_600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert keys.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "-1d", "30", "1.5h", "d", "9999999999d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(SetupError, match="is no duration"):
        keys.duration_s(text)


@pytest.mark.parametrize(
    "kept",
    [
        key(),
        key(tenant="", expires_at_s=2.0, revoked_at_s=3.0, scopes=frozenset({Scope.JOBS, Scope.FILES})),
        key(limits=TenantLimits(rate_per_s=0.5, tokens_per_min=7)),
    ],
)
def test_a_key_survives_being_kept(kept: ApiKey) -> None:
    assert keys.of_row(keys.row_of(kept)) == kept


def test_a_scope_of_a_later_release_gives_nothing() -> None:
    row = keys.row_of(key()) | {"scopes_json": '["jobs","pipelines"]'}
    assert keys.of_row(row).scopes == {Scope.JOBS}
