"""The error table and the exceptions: one for one."""

import orjson
import pytest
from jsonschema import Draft202012Validator

from headrace.contracts import errors
from headrace.contracts.documents.responses import SCHEMAS
from headrace.contracts.errors import ERRORS, HeadraceError, error_body


def _classes(base: type[HeadraceError]) -> list[type[HeadraceError]]:
    return [found for sub in base.__subclasses__() for found in (sub, *_classes(sub))]


_CLASSES = [found for found in _classes(HeadraceError) if found.__module__ == errors.__name__]


def test_each_class_has_a_row_and_each_row_a_class() -> None:
    # A class without a code of its own is to callers what its parent is.
    codes = [found.code for found in _CLASSES if "code" in vars(found)]
    assert len(codes) == len(set(codes))
    assert set(codes) == set(ERRORS)


@pytest.mark.parametrize("found", _CLASSES)
def test_the_tree_in_the_docstring_is_the_tree(found: type[HeadraceError]) -> None:
    status = ERRORS[found.code].http_status
    lines = [line for line in (errors.__doc__ or "").splitlines() if f" {found.__name__} " in line]
    assert len(lines) == 1
    assert f" {status}" in lines[0]


@pytest.mark.parametrize("kind", ERRORS.values(), ids=lambda kind: kind.code)
def test_a_row_makes_sense(kind: errors.ErrorKind) -> None:
    assert 400 <= kind.http_status < 600
    # What the caller must change does not get better by itself.
    assert not (kind.retryable and kind.type == "invalid_request_error")
    assert (kind.type == "server_error") == (kind.http_status in (500, 501, 503))


@pytest.mark.parametrize("found", [HeadraceError, *_CLASSES])
def test_both_halves_of_the_body_say_the_same(found: type[HeadraceError]) -> None:
    body = orjson.loads(found("What to do", param="messages").body())
    Draft202012Validator(SCHEMAS["Error"]).validate(body)
    assert body["error"]["message"] == body["detail"] == "What to do"
    assert body["error"]["code"] == found.code == body["type"].rpartition("/")[2]
    assert body["error"]["param"] == "messages"
    assert body["status"] == ERRORS[found.code].http_status


def test_param_is_null_when_no_field_is_at_fault() -> None:
    body = orjson.loads(error_body(ERRORS["overloaded"], "Later"))
    assert body["error"] == {
        "message": "Later",
        "type": "rate_limit_error",
        "param": None,
        "code": "overloaded",
    }
