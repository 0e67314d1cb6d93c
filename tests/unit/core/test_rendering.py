"""Answers in the form that was asked for."""

import csv
import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.errors import EngineFailed
from headrace.contracts.formats import CSV, JSON, PLAIN, TEXT, Format
from headrace.core.rendering import render

ANSWER = orjson.dumps(
    {
        "output": {"text": "Grüße", "rows": [{"a": 1, "b": "x,y"}, {"a": None, "c": [1]}]},
        "choices": [{"message": {"content": "hi"}}],
        "a/b~": 7,
    }
)


def form(kind, select=""):
    return Format(type=kind, select=select)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (PLAIN, ANSWER),
        (form(JSON, "/output/rows/0"), b'{"a":1,"b":"x,y"}'),
        (form(JSON, "/a~1b~0"), b"7"),
        (form("application/vnd.x+json", "/choices/0/message"), b'{"content":"hi"}'),
        (form(TEXT, "/choices/0/message/content"), b"hi"),
        (form(TEXT, "/output/text"), "Grüße".encode()),
        (form(TEXT, "/a~1b~0"), b"7"),
        (form(CSV, "/output/rows"), b'a,b,c\r\n1,"x,y",\r\n,,[1]\r\n'),
    ],
)
def test_forms(wanted, expected):
    assert render(ANSWER, wanted) == expected


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[1, "a"], [True, 2.5]], b"1,a\r\ntrue,2.5\r\n"),
        ({"x": [1, 2], "y": ["a", "b"]}, b"x,y\r\n1,a\r\n2,b\r\n"),
        ([1, "b"], b"1\r\nb\r\n"),
        ([], b""),
    ],
)
def test_tables(table, expected):
    assert render(orjson.dumps(table), form(CSV)) == expected


@pytest.mark.parametrize("wrong", [7, "text", {"x": 1}, {"x": [1], "y": []}, [1, [2]], [{"a": 1}, [2]], {}])
def test_what_is_no_table(wrong):
    with pytest.raises(EngineFailed, match="no table at its root"):
        render(orjson.dumps(wrong), form(CSV))


@pytest.mark.parametrize("pointer", ["/nothing", "/output/rows/2", "/output/rows/-1", "/output/text/0", "/"])
def test_what_is_not_there(pointer):
    with pytest.raises(EngineFailed, match="nothing at"):
        render(ANSWER, form(JSON, pointer))


@given(st.lists(st.lists(st.text(), min_size=2, max_size=3), min_size=1))
def test_cells_survive(rows):
    read = list(csv.reader(io.StringIO(render(orjson.dumps(rows), form(CSV)).decode(), newline="")))
    assert read == rows
