"""JSON Schemas of functions' own data."""

import time

import pytest

from headrace.contracts.parameters import Checker, check_schema

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "maxLength": 5}, "counts": {"items": {"type": "integer"}}},
    "required": ["text"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ({}, "input", '"text" is a required property'),
        ("a", "input", "is not of type"),
        ({"text": 7}, "input.text", '7 is not of type "string"'),
        ({"text": "abcdef"}, "input.text", "longer than 5"),
        ({"text": "a", "counts": [1, "x"]}, "input.counts.1", "integer"),
        ({"text": "a", "txet": 1}, "input", "'txet' was unexpected"),
    ],
)
def test_the_sentence_names_the_field(value, field, said):
    found = Checker(SCHEMA).fault(value, of="input")
    assert found is not None
    assert found[0] == field
    assert found[1].startswith(f"Field '{field}': ")
    assert said in found[1]


def test_what_fits_has_no_fault():
    assert Checker(SCHEMA).fault({"text": "abc", "counts": [1]}, of="input") is None


def test_a_sentence_stays_short():
    found = Checker({"type": "integer"}).fault("x" * 10_000, of="output")
    assert found is not None
    assert len(found[1]) < 500


@pytest.mark.parametrize(
    "schema",
    [{"type": "nope"}, {"pattern": "("}, {"$ref": "#/nowhere"}, {"$ref": "http://127.0.0.1:1/x.json"}],
)
def test_what_is_no_schema_is_said(schema):
    assert check_schema(schema)


def test_no_value_takes_a_pattern_long():
    checker = Checker({"type": "string", "pattern": "^(a+)+$"})
    started_s = time.perf_counter()
    assert checker.fault("a" * 50_000 + "b", of="input") is not None
    assert time.perf_counter() - started_s < 5  # exponential would be for ever
