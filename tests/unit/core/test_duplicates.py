"""One event that came twice is one job; whoever is waited for is answered each time."""

import pytest

from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.core import duplicates as module
from headrace.core.duplicates import Duplicates
from headrace.core.ports import Place

JOB = RequestHead(id="a", source="/shop")
HERE, THERE = Place("t", 0, 1), Place("t", 3, 9)


def test_the_second_record_of_one_event_is_a_duplicate() -> None:
    duplicates = Duplicates()
    assert not duplicates.is_one(JOB, HERE)
    assert duplicates.is_one(JOB, THERE)
    assert not duplicates.is_one(JOB, HERE), "the same record, come again after a rebalance"


def test_what_is_no_duplicate() -> None:
    duplicates = Duplicates()
    assert not duplicates.is_one(JOB, HERE)
    assert not duplicates.is_one(JOB._replace(attempt=2), THERE)
    assert not duplicates.is_one(JOB._replace(source="/other"), THERE)
    assert not duplicates.is_one(JOB._replace(id="b"), THERE)
    waited_for = JOB._replace(id="c", reply=ReplyAddress("replies.here"))
    assert not duplicates.is_one(waited_for, HERE)
    assert not duplicates.is_one(waited_for, THERE)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    duplicates = Duplicates()
    for name in "abc":
        assert not duplicates.is_one(JOB._replace(id=name), HERE)
    assert not duplicates.is_one(JOB, THERE), "forgotten"
    assert duplicates.is_one(JOB._replace(id="c"), THERE)
