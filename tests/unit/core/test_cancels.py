"""Remembered cancels are bounded in time and number."""

from headrace.core import cancels as module
from headrace.core.cancels import Cancels


def test_forgotten_after_an_hour():
    cancels = Cancels()
    cancels.add("a", 0.0)
    cancels.add("b", 3500.0)
    assert cancels.has("a")
    cancels.add("c", 3601.0)
    assert [cancels.has(name) for name in "abc"] == [False, True, True]


def test_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MAX", 2)
    cancels = Cancels()
    for name in "abc":
        cancels.add(name, 0.0)
    assert [cancels.has(name) for name in "abc"] == [False, True, True]
