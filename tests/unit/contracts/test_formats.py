"""Which form of the answer a caller gets."""

import pytest
from pydantic import ValidationError

from headrace.contracts.errors import NotAcceptable
from headrace.contracts.formats import CSV, JSON, PLAIN, TEXT, Format, choose

OFFERED = (Format(type=JSON), Format(type=TEXT, select="/a"), Format(type=CSV))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("nonsense", JSON),
        ("*/*", JSON),
        ("text/plain", TEXT),
        ("TEXT/CSV", CSV),
        ("text/*", TEXT),
        ("text/plain;q=0.5, text/csv", CSV),
        ("text/plain; q=0.5, text/csv;q=0.4, */*;q=0.1", TEXT),
        ("text/*, text/plain;q=0", CSV),
        ("application/json;q=bad", JSON),
        ("text/html, */*;q=0.8", JSON),
    ],
)
def test_the_one_that_the_caller_likes_best(accept, expected):
    assert choose(accept, OFFERED).type == expected


@pytest.mark.parametrize("accept", ["text/html", "image/*", "*/*;q=0", "application/json;q=0"])
def test_none_of_them(accept):
    with pytest.raises(NotAcceptable, match="application/json, text/plain, text/csv") as caught:
        choose(accept, OFFERED)
    assert (caught.value.kind.http_status, caught.value.param) == (406, "Accept")


def test_who_offers_no_choice_is_asked_for_none():
    assert choose("text/html", (PLAIN,)) is PLAIN


@pytest.mark.parametrize(
    "wrong",
    [{"type": "text/html"}, {"type": "json"}, {"type": JSON, "select": "a"}, {"type": JSON, "select": "/~2"}],
)
def test_what_is_no_format(wrong):
    with pytest.raises(ValidationError):
        Format(**wrong)


def test_text_says_how_it_is_written():
    assert Format(type=CSV).content_type == b"text/csv; charset=utf-8"
    assert Format(type="application/vnd.x+json").content_type == b"application/vnd.x+json"
