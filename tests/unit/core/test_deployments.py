"""What is deployed, and what came between two looks at it."""

import pytest
from tests.unit.scaler.test_fleet import deployed

from headrace.core.deployments import is_crossed, latest
from headrace.core.ports import Place, Record

HERE = deployed()
GOES = HERE.model_copy(update={"retiring": True})
BACK = GOES.model_copy(update={"returning": True})


def log(*events, name="chat"):
    values = [None if event is None else event.encode() for event in events]
    return [
        Record(Place("models", 0, offset), name.encode(), value, {}, 0) for offset, value in enumerate(values)
    ]


def test_the_latest_word_counts():
    assert latest(log(HERE, GOES), "chat") == GOES
    assert latest(log(HERE, None), "chat") is None
    assert latest(log(HERE, None), "other") is None
    assert latest([*log(HERE), *log(None, name="other")], "chat") == HERE


def test_only_who_wants_nobody_back_is_leaving():
    assert [each.is_leaving for each in (HERE, GOES, BACK)] == [False, True, False]


@pytest.mark.parametrize(
    ("between", "crossed"),
    [
        ((), False),
        ((HERE,), False),
        ((GOES,), True),
        ((GOES, None), True),
        ((None, HERE), True),
        ((BACK,), True),
    ],
)
def test_a_deployment_is_crossed_by_what_takes_the_model_away(between, crossed):
    records = log(*between, HERE, GOES)
    assert is_crossed(records, "chat", len(between)) == crossed, "what comes after it does not cross it"
    assert not is_crossed(records, "other", len(between))
