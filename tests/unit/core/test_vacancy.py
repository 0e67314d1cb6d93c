"""Requests of a model without workers: late or cancelled they end, the others wait on."""

import pytest

from headrace.contracts import requests
from headrace.contracts.events import ModelDeployed
from headrace.contracts.manifest import Manifest
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.core import vacancy as module
from headrace.core.cancels import Cancels
from headrace.core.identity import Trust
from headrace.core.offsets import Commit, Hold, Progress, decode, encode
from headrace.core.ports import Place, Record
from headrace.core.vacancy import Vacancy

PART = ("lane", 0)
MANIFEST = Manifest.model_validate(
    {"name": "m", "engine": {"kind": "echo"}, "limits": {"deadline_s": 100}, "scaling": {"min_workers": 0}}
)
DEPLOYED = ModelDeployed(
    name="m", slug="m", version="1", package_url="s3://b/k", manifest=MANIFEST, partitions=1, deployed_at_s=0
)


def record(offset, at_s=0.0, **head):
    head = {"id": f"r{offset}", "source": "/t", "reply": ReplyAddress("replies.here"), **head}
    headers = dict(requests.write(RequestHead(**head)))
    return Record(Place(*PART, offset), None, b"{}", headers, int(at_s * 1000))


def vacancy(commit=None, *records):
    found = Vacancy(DEPLOYED, {PART: commit}, Trust(None))
    for each in records:
        found.take(each)
    return found


def ends(found, now_s, *cancelled):
    cancels = Cancels()
    for request_id in cancelled:
        cancels.add(request_id, now_s)
    return [(ended.waiting.head.id, ended.state) for ended in found.ended(now_s, cancels)]


def test_by_the_models_deadline_or_their_own():
    found = vacancy(None, record(0), record(1, expires_at_s=50.0), record(2, at_s=60, expires_at_s=500.0))
    assert ends(found, 49) == []
    assert ends(found, 50) == [("r1", State.EXPIRED)]
    assert ends(found, 100) == [("r0", State.EXPIRED), ("r1", State.EXPIRED)]
    assert len(ends(found, 160)) == 3


def test_a_cancel_is_a_cancel_even_when_it_is_late():
    assert ends(vacancy(None, record(0)), 500, "r0") == [("r0", State.CANCELLED)]


def test_what_was_settled_is_committed_out_of_order_and_not_looked_at_again():
    found = vacancy(Commit(3, ""), record(3), record(4), record(5))
    assert found.changed() == {}
    (_, middle, _) = found.ended(500, Cancels())
    found.settled(middle.waiting)
    changed = found.changed()
    assert changed[PART].offset == 3
    assert decode(changed[PART]).done == {4}
    found.committed(changed)
    assert found.changed() == {}
    assert found.is_still(changed)
    assert ends(found, 500) == [("r3", State.EXPIRED), ("r5", State.EXPIRED)]
    assert found.positions(500) == {PART: 6}


def test_what_others_have_done_is_known_and_what_they_hold_is_waited_for():
    progress = Progress(frozenset({1}), (Hold("w", 50.0, frozenset({2})),))
    commit = Commit(0, encode(0, progress))
    found = vacancy(commit, record(0), record(1), record(2))
    assert [name for name, _ in ends(found, 500)] == ["r0"]
    assert found.positions(49) == {PART: 3}
    assert found.positions(50) == {PART: 2}
    found.take(record(2))
    assert [name for name, _ in ends(found, 500)] == ["r0", "r2"]
    assert not found.is_still({PART: Commit(9, "")})


def test_what_cannot_be_read_is_left_to_a_worker():
    broken = record(0)._replace(headers={"ce_attempt": b"many"})
    found = vacancy(None, broken, record(1))
    (late,) = found.ended(500, Cancels())
    found.settled(late.waiting)
    assert found.changed()[PART].offset == 0


def test_no_more_than_so_many_at_once(monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    found = vacancy(None, record(0), record(1))
    assert found.positions(0) == {}
    found.take(record(2))
    found.take(record(3))
    found.settled(found.ended(500, Cancels())[0].waiting)
    assert found.positions(0) == {PART: 2}


@pytest.mark.parametrize("commit", [None, Commit(0, "")])
def test_a_log_that_begins_later(commit):
    found = vacancy(commit, record(7))
    (late,) = found.ended(500, Cancels())
    found.settled(late.waiting)
    assert found.changed()[PART].offset == 8
