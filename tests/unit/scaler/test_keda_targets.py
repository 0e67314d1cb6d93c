"""Numbers for KEDA: of models that are deployed, while somebody decides."""

import pytest

from headrace.contracts.errors import Unavailable, UnknownModel
from headrace.scaler.actuators.keda.targets import Targets


@pytest.fixture
def now_s():
    return [0.0]


@pytest.fixture
def targets(now_s):
    return Targets(lambda: now_s[0])


def test_before_a_decision_there_is_no_number(targets):
    assert not targets.are_fresh
    with pytest.raises(Unavailable, match="does not act"):
        targets.of("chat")


def test_a_number_holds_for_half_a_minute(targets, now_s):
    targets.decide({"chat": 2})
    now_s[0] = 30.0
    assert targets.of("chat") == 2
    now_s[0] = 30.1
    with pytest.raises(Unavailable):
        targets.of("chat")
    targets.decide({"chat": 2})
    assert targets.of("chat") == 2


def test_a_model_that_is_not_deployed(targets):
    targets.decide({"chat": 0})
    assert targets.of("chat") == 0
    with pytest.raises(UnknownModel, match="no model 'cat'"):
        targets.of("cat")


def test_who_waits_is_woken_by_another_number_only(targets):
    targets.decide({"chat": 0})
    turned = targets.turned
    targets.decide({"chat": 0})
    assert not turned.is_set()
    targets.decide({"chat": 1})
    assert turned.is_set()
    assert not targets.turned.is_set()


def test_at_the_end_who_waits_is_woken_and_told_nothing(targets):
    targets.decide({"chat": 1})
    turned = targets.turned
    targets.close()
    assert (turned.is_set(), targets.is_closed) == (True, True)
    with pytest.raises(Unavailable):
        targets.of("chat")
